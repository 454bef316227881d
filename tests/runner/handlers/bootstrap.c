/* A compiled function of a provided runtime: speaks the Runtime API over a plain socket, and echoes its events. */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define NEXT "/2018-06-01/runtime/invocation/next"

static char answer[1 << 20];

static int dial(void) {
    char host[64];
    int port;
    if (sscanf(getenv("AWS_LAMBDA_RUNTIME_API"), "%63[^:]:%d", host, &port) != 2) exit(2);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, host, &address.sin_addr);
    int server = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(server, (struct sockaddr *)&address, sizeof address) != 0) exit(3);
    return server;
}

/* One request on a connection of its own; gives the length of the answer, head and all. */
static size_t ask(const char *head, const char *body, size_t length) {
    int server = dial();
    if (write(server, head, strlen(head)) < 0 || write(server, body, length) < 0) exit(4);
    size_t read_so_far = 0;
    ssize_t more;
    while ((more = read(server, answer + read_so_far, sizeof answer - 1 - read_so_far)) > 0) read_so_far += more;
    close(server);
    answer[read_so_far] = 0;
    return read_so_far;
}

int main(void) {
    for (;;) {
        char head[512], id[64];
        size_t length = ask("GET " NEXT " HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n", "", 0);
        char *header = strcasestr(answer, "lambda-runtime-aws-request-id:"), *body = strstr(answer, "\r\n\r\n");
        if (!header || !body || sscanf(strchr(header, ':') + 1, " %63s", id) != 1) return 5;
        length -= body + 4 - answer;
        char *event = memcpy(malloc(length + 1), body + 4, length);
        snprintf(head, sizeof head,
                 "POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\r\nHost: api\r\nConnection: close\r\n"
                 "Content-Length: %zu\r\n\r\n", id, length);
        ask(head, event, length);
        free(event);
    }
}
