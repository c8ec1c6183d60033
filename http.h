/*
 * http.h - HTTP requests over libcurl's multi interface, inside a poll loop.
 *
 * RFC 9110, 9112 (HTTP/1.1). Redirects are not followed, answers are bounded, names are looked up in a thread of libcurl's. Nothing here blocks.
 */
#ifndef HTTP_H
#define HTTP_H

#include "buf.h"
#include "loop.h"

#define HTTP_UNHURRIED_MAX 4

struct http;
struct http_call;

struct http_request {
	const char	*url;		/* http or https; copied */
	const char	*unix_socket;	/* a path instead of the URL's host and port; NULL: none */
	const char	*ca_file;	/* of https; NULL or "": the system's bundle */
	const char *const *headers;	/* "Name: value", NULL ends them; NULL: none; copied */
	int		 body_fd;	/* POST: the body is read from here, by pread, borrowed until done; -1: GET */
	uint64_t	 body_at, body_len;	/* of it */
	bool		 post;		/* POST, with an empty body when body_fd is -1 */
	bool		 unhurried;	/* nobody waits for it: at most HTTP_UNHURRIED_MAX at once, so that the others have their places */
	size_t		 answer_max;	/* octets of an answer's body; a longer one is a failure */
	int64_t		 connect_ms, total_ms;	/* > 0 */
};

struct http_answer {
	int		 status;	/* 200, ...; 0: there was no whole answer to the whole request, and error says why */
	bool		 timed_out;	/* status 0: because connect_ms or total_ms has passed */
	const char	*error;		/* for the log; "" when there is an answer */
	struct span	 body;		/* borrowed until done returns */
	const char	*content_type;	/* "" when absent */
	int64_t		 max_age_s;	/* Cache-Control: max-age, 0 for no-store and no-cache; -1: not said */
	int64_t		 took_us;
};

typedef void http_done(void *arg, const struct http_answer *a);

/* max: calls at once. The loop is borrowed until http_free(). NULL with errno. */
struct http	*http_new(struct loop *l, size_t max);
/* Calls under way end without done. */
void		 http_free(struct http *h);
/* Returns a handle, valid until done is called, or NULL with errno (EAGAIN: as many as may be are under way). done: once, from the loop, never from inside this call. */
struct http_call *http_start(struct http *h, const struct http_request *q, http_done *done, void *arg);
/* End it; done is not called. */
void		 http_cancel(struct http_call *c);
size_t		 http_running(const struct http *h);
/* The seconds that a Cache-Control field allows: its shortest max-age, 0 for no-store and no-cache; -1: not said (RFC 9111 5.2). */
int64_t		 http_max_age(struct span cache_control);

#endif
