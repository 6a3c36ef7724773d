/* Reports at least 65536 open files as the hard limit.
 *
 * Elasticsearch refuses to bind to a pod's address below 65535, and a machine may allow less and not let root raise it
 * (no CAP_SYS_RESOURCE). In this stand-in alone: the true limit stays, and a few test indices never come near it. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WANTED 65536

static int limits(int resource, struct rlimit64 *limit) {
    int failed = (int)syscall(SYS_prlimit64, 0, resource, 0, limit);
    if (!failed && resource == RLIMIT_NOFILE && limit->rlim_max < WANTED)
        limit->rlim_cur = limit->rlim_max = WANTED;
    return failed;
}

int getrlimit64(__rlimit_resource_t resource, struct rlimit64 *limit) { return limits((int)resource, limit); }

/* 64-bit machines alone, where both structures are the same */
int getrlimit(__rlimit_resource_t resource, struct rlimit *limit) { return limits((int)resource, (struct rlimit64 *)limit); }
