// Names given as arguments, looked up by the C library that this is linked with.
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

int main(int argc, char** argv) {
  for (int i = 1; i < argc; i++) {
    struct addrinfo hints;
    memset(&hints, 0, sizeof(hints));
    hints.ai_socktype = SOCK_STREAM;
    struct addrinfo* list = NULL;
    const int error = getaddrinfo(argv[i], "80", &hints, &list);
    printf("%s: %d", argv[i], error);
    for (int family = AF_INET; family <= AF_INET6; family += AF_INET6 - AF_INET) {
      for (struct addrinfo* a = list; a != NULL; a = a->ai_next) {
        char text[64] = "";
        if (a->ai_family != family) continue;
        const void* from = family == AF_INET ? (const void*)&((struct sockaddr_in*)a->ai_addr)->sin_addr
                                             : (const void*)&((struct sockaddr_in6*)a->ai_addr)->sin6_addr;
        printf(" %s", inet_ntop(family, from, text, sizeof(text)));
      }
    }
    printf("\n");
    if (error == 0) freeaddrinfo(list);
  }
  return 0;
}
