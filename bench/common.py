"""What the benchmarks share: a server and what its processes use, notes and tables."""
import atexit
import json
import os
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
SCRATCH = os.path.abspath(os.environ.get("BENCH_SCRATCH", os.path.join(ROOT, "build", "bench")))
SPENT = os.path.join(SCRATCH, "spent")
PREFIX = os.path.abspath(os.environ.get("BENCH_PREFIX", os.path.join(SCRATCH, "prefix")))
SMTPD = os.path.abspath(os.environ.get("SMTPD", os.path.join(ROOT, "smtpd")))

BANNER_S = 20.0         # until a server must have greeted
DRAIN_S = 60.0          # until what it accepted must be in the Maildir
DRAIN_STALL_S = 15.0    # without one more
STOP_S = 10.0
LOAD_S = 90.0           # beyond the time that load is given; its own grace is shorter
SETUP_S = 300.0

SIZES = {"1k": 1024, "2k": 2048, "100k": 100 * 1024, "1m": 1024 * 1024}


class Failure(Exception):
    """What keeps a server out of a cell or of the run; its text is for the report."""


# ---- CPU and memory of a process tree ----

class Cgroups:
    """One control group a server; without any, the sums in /proc."""

    def __init__(self):
        self.base = self.mounted = self.v2 = None
        mounts = [line.split() for line in open("/proc/mounts")]
        for _, where, kind, options, *_ in mounts:
            if kind == "cgroup" and "cpuacct" in options.split(","):
                self.base, self.v2 = where, False
        if self.base is None:
            for _, where, kind, *_ in mounts:
                if kind == "cgroup2":
                    self.base, self.v2 = where, True
        if self.base is None and os.geteuid() == 0:
            where = os.path.join(SCRATCH, "cpuacct")
            os.makedirs(where, exist_ok=True)
            if subprocess.run(["mount", "-t", "cgroup", "-o", "cpuacct", "bench", where], stderr=subprocess.DEVNULL).returncode == 0:
                self.base, self.mounted, self.v2 = where, where, False
        if self.base is not None:
            try:
                os.rmdir(self.make("probe"))
            except OSError:
                self.base = None
        self.how = "/proc" if self.base is None else "cgroup v2 cpu.stat" if self.v2 else "cgroup v1 cpuacct"

    def make(self, name):
        path = os.path.join(self.base, f"smtpd-bench-{os.getpid()}-{name}")
        os.mkdir(path)
        return path

    def close(self):
        if self.mounted:
            subprocess.run(["umount", self.mounted], stderr=subprocess.DEVNULL)
            os.rmdir(self.mounted)


def proc_stat(pid):
    """The fields of /proc/PID/stat after the name, or None."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rpartition(")")[2].split()
    except OSError:
        return None


def tree(pid):
    """pid and its descendants."""
    children = {}
    for entry in os.listdir("/proc"):
        stat = proc_stat(entry) if entry.isdigit() else None
        if stat:
            children.setdefault(int(stat[1]), []).append(int(entry))
    found = [pid]
    for p in found:
        found += children.get(p, [])
    return found


# ---- one server ----

def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, name, cgroups, max_clients):
        self.name, self.cgroups, self.max_clients = name, cgroups, max_clients
        self.script = os.path.join(HERE, "peers", name)
        self.dir = os.path.join(SCRATCH, "servers", name)
        self.proc = self.cgroup = None
        self.info = {}

    def environ(self):
        return dict(os.environ, BENCH_DIR=self.dir, BENCH_PORT=str(getattr(self, "port", 0)), BENCH_MAXCONN=str(self.max_clients),
                    BENCH_PREFIX=PREFIX, BENCH_TOOLS=os.path.join(SCRATCH, "tools"), SMTPD=SMTPD, LC_ALL="C")

    def call(self, word):
        done = subprocess.run([self.script, word], env=self.environ(), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              timeout=SETUP_S)
        if done.returncode != 0:
            raise Failure((done.stderr.strip().splitlines() or [f"{word} failed"])[-1])
        return done.stdout

    def make_ready(self, fetch):
        if fetch:
            self.call("setup")
        self.info = dict(line.split("=", 1) for line in self.call("info").splitlines() if "=" in line)

    def delivers(self):
        return self.info.get("delivers") != "no"

    def launch(self):
        shutil.rmtree(self.dir, ignore_errors=True)
        os.makedirs(self.dir)
        os.chmod(self.dir, 0o755)
        self.port = free_port()
        if self.cgroups.base is not None:
            self.cgroup = self.cgroups.make(self.name)
        self.log = os.path.join(self.dir, "log")
        with open(self.log, "wb") as log:
            self.proc = subprocess.Popen([self.script, "start"], env=self.environ(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         cwd="/", start_new_session=True, preexec_fn=self.enter)

    def start(self):
        """Returns the seconds until the greeting."""
        self.launch()
        deadline = time.time() + BANNER_S
        while time.time() < deadline:
            if self.proc.poll() is not None:
                raise Failure(f"ended with {self.proc.returncode}: {self.last_log()}")
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                    greeting = s.recv(512)
                    greeted_at = time.time()
                    if greeting.startswith(b"220"):
                        s.sendall(b"QUIT\r\n")
                        s.recv(512)
                        with open(os.path.join(self.dir, "t0")) as f:
                            return greeted_at - float(f.read())
                    raise Failure(f"greeted with {greeting[:60]!r}")
            except ConnectionError:
                time.sleep(0.0005)
            except TimeoutError:
                raise Failure("accepts and says nothing") from None
        raise Failure(f"no greeting within {BANNER_S:.0f} s: {self.last_log()}")

    def enter(self):
        if self.cgroup is not None:
            with open(os.path.join(self.cgroup, "cgroup.procs"), "w") as f:
                f.write("0")

    def last_log(self):
        with open(self.log, errors="replace") as f:
            lines = f.read().strip().splitlines()
        return lines[-1][:200] if lines else "no log"

    def pids(self):
        if self.cgroup is None:
            return tree(self.proc.pid)
        with open(os.path.join(self.cgroup, "cgroup.procs")) as f:
            return sorted({int(line) for line in f})

    def stop(self):
        """SIGTERM to its first process, SIGKILL to what is left of those that it started."""
        if self.proc is None:
            return
        pids = self.pids()
        if self.proc.poll() is None:
            self.proc.send_signal(signal.SIGTERM)
        deadline = time.time() + STOP_S
        while time.time() < deadline:
            self.proc.poll()
            pids = [p for p in (self.pids() if self.cgroup else pids) if (proc_stat(p) or ["Z"])[0] != "Z"]
            if not pids:
                break
            if self.proc.returncode is not None and time.time() > deadline - STOP_S / 2:
                break           # the first one is gone, the others did not follow
            time.sleep(0.02)
        for p in pids:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
        self.proc.wait(timeout=STOP_S)
        self.proc = None
        if self.cgroup is not None:
            for _ in range(200):
                try:
                    os.rmdir(self.cgroup)
                    break
                except OSError:
                    time.sleep(0.02)
            self.cgroup = None

    def cpu(self):
        """Seconds used so far by all its processes, ended ones included."""
        if self.cgroup is None:
            ticks = sum(sum(map(int, stat[11:15])) for stat in map(proc_stat, self.pids()) if stat)
            return ticks / os.sysconf("SC_CLK_TCK")
        if self.cgroups.v2:
            with open(os.path.join(self.cgroup, "cpu.stat")) as f:
                return int(dict(line.split() for line in f)["usage_usec"]) / 1e6
        with open(os.path.join(self.cgroup, "cpuacct.usage")) as f:
            return int(f.read()) / 1e9

    def pss(self):
        """KB of all its processes, each shared page divided among those that share it; None when one may not be looked at."""
        total = 0
        for p in self.pids():
            try:
                with open(f"/proc/{p}/smaps_rollup") as f:
                    total += sum(int(line.split()[1]) for line in f if line.startswith("Pss:"))
            except PermissionError:
                return None
            except OSError:
                continue        # it ended
        return total

    def boxes(self):
        for path, dirs, _ in os.walk(os.path.join(self.dir, "Maildir")):
            if os.path.basename(path) == "new":
                dirs.clear()
                yield path

    def delivered(self):
        return sum(sum(1 for _ in os.scandir(path)) for path in self.boxes())

    def drain(self, expected):
        """Wait until what was accepted is in the Maildir; returns how many are."""
        count = self.delivered()
        end, stall, pause = time.time() + DRAIN_S, time.time() + DRAIN_STALL_S, 0.01
        while count < expected and time.time() < min(end, stall):
            time.sleep(pause)
            pause = min(pause * 2, 0.2)
            before, count = count, self.delivered()
            if count > before:
                stall = time.time() + DRAIN_STALL_S
        return count

    def clear(self):
        """Empty its Maildirs. The files themselves stay until the run ends, without content: an ext4 without a journal looks at each
        inode that was freed within the last minutes before it makes a file, and who comes next would pay for that."""
        spent = tempfile.mkdtemp(dir=SPENT)
        for path in self.boxes():
            for entry in os.scandir(path):
                os.truncate(entry.path, 0)
                os.rename(entry.path, os.path.join(spent, entry.name))
        os.sync()               # what is still to be written is not the next server's


# ---- messages ----

def build_tools():
    """CC is the compiler of the user; MDA_CC, when set, that of the delivery command alone (a static libc that starts fast)."""
    tools = os.path.join(SCRATCH, "tools")
    os.makedirs(tools, exist_ok=True)
    musl = os.path.join(ROOT, "build", "deps", "bin", "musl-gcc")
    cc = os.environ.get("CC", "cc")
    mda_cc = os.environ.get("MDA_CC", musl if os.path.exists(musl) else cc)
    for name, compiler, flags in (("load", cc, ["-O2"]), ("mda", mda_cc, ["-Os", "-static", "-s"])):
        subprocess.run([*compiler.split(), "-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", *flags,
                        "-o", os.path.join(tools, name), os.path.join(HERE, name + ".c")], check=True)


def load(*args):
    return [os.path.join(SCRATCH, "tools", "load"), *map(str, args)]


def measure(server, cell, seconds):
    size, sessions, per_conn = cell.split("/")
    if server.proc is None or server.proc.poll() is not None:
        raise Failure(f"died: {server.last_log()}")
    cpu, begin = server.cpu(), time.monotonic()
    done = subprocess.run(load("-P", server.port, "-s", sessions, "-k", per_conn, "-l", SIZES[size], "-t", seconds),
                          capture_output=True, text=True, timeout=LOAD_S + seconds)
    result = json.loads(done.stdout)
    count = result["messages"]
    if server.delivers():
        result["delivered"] = server.drain(count)
    result["drained_s"] = time.monotonic() - begin
    result["cpu_s_per_1000"] = (server.cpu() - cpu) * 1000 / count if count else None
    server.clear()
    if server.delivers() and not count <= result["delivered"] <= count + result["errors"]:
        raise Failure(f"{count} accepted, {result['delivered']} delivered")
    if count == 0:
        raise Failure(result["error"] or "no message within the time")
    if result["errors"]:
        result["note"] = f"{result['errors']} errors, first: {result['error']}"
    return result


def summary(results):
    """The median of the rounds."""
    keys = ("rate", "cpu_s_per_1000", "p50_us", "p99_us", "load_cpu_s", "rspamd_cpu_s_per_1000")
    cell = {k: statistics.median(r[k] for r in results) for k in keys if k in results[0]}
    cell["messages"] = sum(r["messages"] for r in results)
    cell["errors"] = sum(r["errors"] for r in results)
    cell["rounds"] = results
    return cell


def warm_up(server):
    """So that what is compiled or started on demand is there when the first cell begins. Returns whether it answered."""
    server.start()
    done = subprocess.run(load("-P", server.port, "-s", 10, "-k", 100, "-m", 1000, "-t", 2), capture_output=True, text=True,
                          timeout=LOAD_S)
    count = json.loads(done.stdout)["messages"]
    if server.delivers():
        server.drain(count)
    server.clear()
    return True


def measure_cells(servers, cells, options, report, measure=measure):
    """Servers take turns in each cell and round, so that whatever else the machine does meets them all."""
    broken = {}
    for cell in cells:
        row = report["cells"][cell] = {}
        for name in servers:
            row[name] = []
        for _ in range(options.rounds):
            for server in servers.values():
                if server.name in broken or isinstance(row[server.name], str):
                    continue
                try:
                    row[server.name].append(measure(server, cell, options.seconds))
                except (Failure, subprocess.TimeoutExpired, ValueError, OSError) as e:
                    row[server.name] = f"{e}"
                    if server.proc.poll() is not None:
                        broken[server.name] = f"{e}"
        for name, results in row.items():
            row[name] = {"failed": results or broken.get(name, "")} if isinstance(results, str) or not results else summary(results)
            why = row[name].get("failed") or (row[name]["errors"] and next(r["note"] for r in row[name]["rounds"] if r["errors"]))
            if why:
                note(f"{cell} {name}: {why}")
        note(f"{cell}: " + ", ".join(f"{n} {r['rate']:.0f}/s" for n, r in row.items() if "rate" in r))


# ---- the report ----

def note(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def table(title, rows):
    """rows[0] is the head; the first column is left-aligned."""
    print(f"\n{title}")
    widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
    for r in rows:
        print("  " + "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))))


def show(value, pattern="{:.0f}", scale=1.0):
    return "-" if value is None else pattern.format(value * scale)


def print_head(report, names):
    """Where and on what the figures were made."""
    print(f"\n{report['machine']}")
    for n in names:
        print(f"  {n}: {report['servers'][n].get('version', '?')}; {report['servers'][n].get('reply', '')}")
    for n, why in report["skipped"].items():
        print(f"  {n}: left out: {why}")
    before, after = report["load_average"]
    busy = "; the machine was busy with something else: do not trust the figures" if before > os.cpu_count() / 2 else ""
    print(f"Load average {before:.1f} before, {after:.1f} after{busy}")


# ---- the run ----

def prepare():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))    # through every finally
    os.makedirs(os.path.join(SCRATCH, "servers"), exist_ok=True)
    # on ext4 each server's folders in a block group of their own, so that none looks for inodes among those that another deleted
    subprocess.run(["chattr", "+T", os.path.join(SCRATCH, "servers")], stderr=subprocess.DEVNULL)
    os.makedirs(SPENT, exist_ok=True)
    if not os.environ.get("BENCH_MORE"):    # else the next one begins at once, and would pay for it
        atexit.register(shutil.rmtree, SPENT, ignore_errors=True)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def start_report(options, cgroups):
    return {"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), "quick": options.quick, "seconds": options.seconds,
            "rounds": options.rounds, "servers": {}, "skipped": {}, "cpu_from": cgroups.how,
            "machine": f"{os.uname().sysname} {os.uname().release} {os.uname().machine}, {os.cpu_count()} processors",
            "load_average": [os.getloadavg()[0]]}


def make_ready(servers, options, report):
    """Those that can run here, by name."""
    ready = {}
    for server in servers:
        try:
            server.make_ready(not options.no_setup)
            ready[server.name] = server
            report["servers"][server.name] = server.info
        except (Failure, subprocess.TimeoutExpired) as e:
            report["skipped"][server.name] = f"{e}"
            note(f"{server.name} is left out: {e}")
    return ready


def attempt(report, server, what):
    """what(), or None with the server left out."""
    try:
        return what()
    except (Failure, subprocess.TimeoutExpired, ValueError, OSError) as e:
        report["skipped"][server.name] = f"{e}"
        report["servers"].pop(server.name, None)
        note(f"{server.name} is left out: {e}")
        server.stop()
        return None
