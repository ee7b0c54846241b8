/* A resolver that never answers. Preloaded into the real aexd: an address in numbers does not come here. */
#include <netdb.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    (void)node, (void)service, (void)hints, (void)found;
    for (;;) pause();
}
