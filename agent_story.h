/*
 * agent_story.h - what is counted and logged of a message. Internal to agent*.c.
 */
#ifndef AGENT_STORY_H
#define AGENT_STORY_H

#include "agent_client.h"

/* Count a refusal. A recipient's domain is told if it is ours; "": none is known. */
void	story_refused(const struct agent *a, unsigned listener_slot, const char *domain, enum metrics_reason why);
/* Count a message that has come to its end, and write the line that tells its whole story. */
void	story_tell(const struct work *w, const struct verdict *v, const char *detail);

#endif
