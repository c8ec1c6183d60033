/*
 * canned.c - the replies that more than one place gives, as a table.
 */
#include "canned.h"

const struct canned_reply canned_replies[R__MAX] = {
	[R_BAD_SEQUENCE] = { 503, "5.5.1", "Bad sequence of commands" },
	[R_NEED_HELLO] = { 503, "5.5.1", "Send EHLO or HELO first" },
	[R_SYNTAX] = { 500, "5.5.2", "Syntax error" },
	[R_BARE_LF] = { 500, "5.5.2", "Commands end with CRLF" },
	[R_CONTROL] = { 500, "5.5.2", "Control or 8-bit characters in command" },
	[R_LINE_TOO_LONG] = { 500, "5.5.2", "Line too long" },
	[R_UNKNOWN] = { 500, "5.5.2", "Command not recognized" },
	[R_NOT_IMPLEMENTED] = { 502, "5.5.1", "Command not implemented" },
	[R_ARGUMENT] = { 501, "5.5.4", "Syntax error in argument" },
	[R_NO_ARGUMENT] = { 501, "5.5.4", "No argument allowed" },
	[R_HELLO] = { 501, "5.5.4", "A domain name or an address literal is needed" },
	[R_EARLY] = { 554, "5.5.0", "Protocol error: spoke too early" },
	[R_HOSTILE] = { 421, "4.7.0", "This is a mail server" },
	[R_TOO_MANY_ERRORS] = { 421, "4.7.0", "Too many errors" },
	[R_TIMEOUT] = { 421, "4.4.2", "Timeout" },
	[R_TOO_SLOW] = { 421, "4.4.2", "Too slow" },
	[R_SHUTDOWN] = { 421, "4.3.2", "Shutting down" },
	[R_NO_RECIPIENTS] = { 554, "5.5.1", "No valid recipients" },
	[R_TOO_MANY_RCPTS] = { 452, "4.5.3", "Too many recipients" },
	[R_TOO_BIG] = { 552, "5.3.4", "Message too big" },
	[R_NEWLINE] = { 550, "5.5.2", "Bare CR or LF in message" },
	[R_NUL] = { 550, "5.6.0", "NUL in message" },
	[R_NO_SPACE] = { 452, "4.3.1", "Insufficient system storage" },
	[R_LOST] = { 451, "4.3.0", "Temporary failure, try again" },
	[R_PARAM_UNKNOWN] = { 555, "5.5.4", "Parameter not recognized" },
	[R_PARAM_SYNTAX] = { 501, "5.5.4", "Syntax error in parameter" },
	[R_BAD_CHUNK] = { 501, "5.5.4", "Syntax error in chunk size" },
	[R_TLS_NEEDED] = { 530, "5.7.0", "Must issue a STARTTLS command first" },
	[R_TLS_UNAVAILABLE] = { 454, "4.7.0", "TLS not available" },
	[R_AFTER_STARTTLS] = { 554, "5.5.0", "Data after STARTTLS" },
	[R_AUTH_FAILED] = { 535, "5.7.8", "Authentication credentials invalid" },
	[R_AUTH_MANY] = { 421, "4.7.0", "Too many failed authentication attempts" },
	[R_AUTH_UNABLE] = { 454, "4.7.0", "Temporary authentication failure" },
	[R_AUTH_CANCELLED] = { 501, "5.7.0", "Authentication cancelled" },
	[R_AUTH_BASE64] = { 501, "5.5.2", "Not base64" },
	[R_AUTH_ENCRYPT] = { 538, "5.7.11", "Encryption required for requested authentication mechanism" },
	[R_AUTH_MECHANISM] = { 504, "5.5.4", "Unrecognized authentication mechanism" },
};

void
canned_verdict(enum canned which, struct verdict *v)
{
	*v = (struct verdict){ 0 };
	if (which != R_NONE)
		verdict_set(v, canned_replies[which].code, canned_replies[which].esc, "%s", canned_replies[which].text);
}
