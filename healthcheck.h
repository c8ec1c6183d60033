/*
 * healthcheck.h - smtpd healthcheck: is the server that has this configuration ready? For images without a shell.
 */
#ifndef HEALTHCHECK_H
#define HEALTHCHECK_H

#include <stdbool.h>
#include <sys/socket.h>

enum healthcheck {
	HEALTH_HTTP,	/* GET /readyz is answered by 200 */
	HEALTH_SMTP,	/* a greeting is 220 */
	HEALTH_CONNECT	/* it takes connections */
};

/* Ask, for at most three seconds. NULL: it is ready; else why not, a constant. */
const char	*healthcheck(const struct sockaddr *address, socklen_t len, enum healthcheck how);

#endif
