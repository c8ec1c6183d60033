'use strict';
// smtp-server that answers a message when its file is synced and in the Maildir.
const fs = require('node:fs');
const { SMTPServer } = require('smtp-server');
const box = process.env.BENCH_DIR + '/Maildir';
let count = 0;

const server = new SMTPServer({
  name: 'mx.example.test', authOptional: true, disabledCommands: ['STARTTLS', 'AUTH'], disableReverseLookup: true,
  size: 52428800, socketTimeout: 600000, logger: false,
  onRcptTo(address, session, done) {
    done(/@example\.test$/i.test(address.address) ? null : new Error('relay not permitted'));
  },
  onData(stream, session, done) {
    const name = `${Date.now()}.P${process.pid}Q${++count}.bench`;
    const file = fs.createWriteStream(`${box}/tmp/${name}`, { flags: 'wx', mode: 0o600, flush: true });
    file.once('error', done);
    file.once('close', () => fs.rename(`${box}/tmp/${name}`, `${box}/new/${name}`, done));
    stream.pipe(file);
  },
});
server.on('error', () => {});
server.server.listen({ port: +process.env.BENCH_PORT, host: '127.0.0.1', backlog: 1000 });
