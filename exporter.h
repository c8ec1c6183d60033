/*
 * exporter.h - the metrics listener's process: HTTP for Prometheus and for whoever asks whether we live and are ready.
 */
#ifndef EXPORTER_H
#define EXPORTER_H

#include "config.h"
#include "limits.h"
#include "metrics.h"

#define EXPORTER_HEAD_MAX 8192	/* octets of a request */

struct exporter_args {
	const struct config	*config;	/* borrowed until exit, as the rest */
	struct limits		*limits;
	struct metrics		*metrics;
	int			 listen_fd;	/* owned from now on */
	int			 control_fd;	/* to the master; owned from now on */
	bool			 sandbox;	/* drop to config's user (as root), and seccomp */
};

/* The process's work from here to its exit status. */
int	exporter_run(const struct exporter_args *args);

enum exporter_parse {
	EXPORTER_MORE,		/* it is not whole yet */
	EXPORTER_BAD,		/* it is no HTTP/1.x: 400 */
	EXPORTER_TOO_LARGE,	/* it is not whole in EXPORTER_HEAD_MAX octets: 431 */
	EXPORTER_REQUEST
};

struct exporter_request {
	size_t		len;		/* octets of it */
	struct span	method;		/* spans into it */
	struct span	path;		/* begins with "/", or is "*"; without a query */
	bool		http_1_0;
	bool		close;		/* the client, or what it sent, wants no other request on this connection */
	bool		openmetrics;	/* liked at least as much as text/plain */
};

/*
 * A request's head (RFC 9112) at the beginning of in; q is all zero unless it is EXPORTER_REQUEST. No content is taken: what announces one
 * has close set. More octets behind those that led to an answer do not change it.
 */
enum exporter_parse	exporter_parse(struct span in, struct exporter_request *q);

#endif
