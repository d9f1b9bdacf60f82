/* An upstream that is never the bottleneck: one thread, epoll, answers that were built before.

       upstream FOLDER SECONDS          prints its port, serves loopback alone, and ends by itself

   FOLDER has, for each dialect, the pieces of an answer as they go over the wire (tools/bench/answers.py writes them):
   NAME.whole, NAME.opening, NAME.token, NAME.closing. The path of a request chooses the dialect; a word in its body
   says what is answered:

       bench:whole            one small completion
       bench:burst:2000       a stream of so many tokens, as fast as they are taken, one to a write
       bench:paced:500        a stream of so many tokens, 50 a second
       bench:hold             a first token, then silence
       bench:silent           nothing

   Each token has a stamp, "~NUMBER,MICROSECONDS~ ": its place in the stream, and the monotonic clock when it was sent.
   GET /stats tells how many connections were opened, how many callers left a stream that was held, and when. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum { INBOX = 65536, EVENTS = 512, STAMP = 27, FRAME = 4096, PACE = 20000 };
enum mode { IDLE, WHOLE, BURST, PACED, HOLD, SILENT };

static const char RAW[] = "~0000000,0000000000000000~ ";
static const char ENCODED[] = "fjAwMDAwMDAsMDAwMDAwMDAwMDAwMDAwMH4g"; /* the same in base64 */

struct bytes { char *at; size_t size; };

struct dialect {
    const char *path, *name;
    struct bytes whole, opening, token, closing;
    size_t stamp;       /* where the stamp stands in a token */
    bool encoded;       /* it is base64 in a frame of Amazon's event stream, which ends in a checksum */
    size_t frame, end;  /* where that frame begins, and its checksum */
};

static struct dialect dialects[] = {
    {"/chat/completions", "openai"}, {"/messages", "anthropic"}, {"/actions/chat", "oci"}, {"/agentAliases/", "agent"},
};

struct client {
    int fd;
    struct dialect *dialect;
    enum mode mode;
    long tokens, position;  /* -1: the opening; `tokens`: the closing */
    uint64_t due;
    bool queued, blocked;
    struct client *next;
    char *inbox;
    size_t filled;
    struct bytes rest;      /* what the socket did not take */
};

struct queue { struct client *first, *last; };

static struct queue ready, waiting;
static struct client *gone;  /* closed, and freed once no event can name it */
static int poller;
static long opened, hangups;
static uint64_t last_hangup;
static uint32_t checksums[256];

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000 + time.tv_nsec / 1000;
}

static void push(struct queue *queue, struct client *client) {
    if (client->queued) return;
    client->queued = true;
    client->next = NULL;
    if (queue->first) queue->last->next = client; else queue->first = client;
    queue->last = client;
}

static struct client *pop(struct queue *queue) {
    struct client *client = queue->first;
    queue->first = client->next;
    client->queued = false;
    return client;
}

static struct bytes contents(const char *folder, const char *name, const char *part) {
    char path[1024];
    snprintf(path, sizeof path, "%s/%s.%s", folder, name, part);
    FILE *file = fopen(path, "rb");
    if (!file) { perror(path); exit(1); }
    struct bytes found = {malloc(INBOX), 0};
    found.size = fread(found.at, 1, INBOX, file);
    fclose(file);
    return found;
}

static void load(const char *folder) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t sum = byte;
        for (int bit = 0; bit < 8; bit++) sum = sum & 1 ? sum >> 1 ^ 0xEDB88320u : sum >> 1;
        checksums[byte] = sum;
    }
    for (struct dialect *each = dialects; each < dialects + 4; each++) {
        each->whole = contents(folder, each->name, "whole");
        each->opening = contents(folder, each->name, "opening");
        each->token = contents(folder, each->name, "token");
        each->closing = contents(folder, each->name, "closing");
        char *stamp = memmem(each->token.at, each->token.size, RAW, STAMP);
        if (!stamp) {
            stamp = memmem(each->token.at, each->token.size, ENCODED, strlen(ENCODED));
            each->encoded = true;
            each->frame = (char *)memchr(each->token.at, '\n', 16) + 1 - each->token.at;
            each->end = each->token.size - 2 - 4;
        }
        if (!stamp || each->token.size > FRAME) { fprintf(stderr, "%s: no stamp\n", each->name); exit(1); }
        each->stamp = stamp - each->token.at;
    }
}

static void digits(char *to, int count, uint64_t number) {
    while (count--) { to[count] = '0' + number % 10; number /= 10; }
}

static void encode(char *to, const char *from) {
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (int at = 0; at < STAMP; at += 3, to += 4) {
        uint32_t three = (uint8_t)from[at] << 16 | (uint8_t)from[at + 1] << 8 | (uint8_t)from[at + 2];
        for (int place = 0; place < 4; place++) to[place] = alphabet[three >> (18 - 6 * place) & 63];
    }
}

/* Stamp the dialect's token, in place. */
static struct bytes stamped(struct dialect *dialect, long number) {
    char stamp[STAMP + 1];
    memcpy(stamp, RAW, sizeof stamp);
    digits(stamp + 1, 7, number);
    digits(stamp + 9, 16, now());
    char *at = dialect->token.at;
    if (!dialect->encoded) {
        memcpy(at + dialect->stamp, stamp, STAMP);
        return dialect->token;
    }
    encode(at + dialect->stamp, stamp);
    uint32_t sum = ~0u;
    for (size_t byte = dialect->frame; byte < dialect->end; byte++)
        sum = sum >> 8 ^ checksums[(sum ^ (uint8_t)at[byte]) & 255];
    sum = htonl(~sum);
    memcpy(at + dialect->end, &sum, 4);
    return dialect->token;
}

static void drop(struct client *client) {
    if (client->fd < 0) return;
    if (client->mode == HOLD || client->mode == SILENT) { hangups++; last_hangup = now(); }
    close(client->fd);
    client->fd = -1;
    if (!client->queued) { client->next = gone; gone = client; }
}

/* Write, keeping what the socket does not take. */
static void put(struct client *client, struct bytes data) {
    ssize_t sent = send(client->fd, data.at, data.size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) { drop(client); return; }
    size_t took = sent < 0 ? 0 : sent;
    if (took == data.size) return;
    client->blocked = true;
    if (!client->rest.at) client->rest.at = malloc(INBOX);
    client->rest.size = data.size - took;
    memmove(client->rest.at, data.at + took, client->rest.size);
}

static void say(struct client *client, const char *status, const char *body) {
    char text[1024];
    int size = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
                        status, strlen(body), body);
    put(client, (struct bytes){text, size});
}

/* The size of the first request in the inbox; 0 while it is not whole. */
static size_t request_size(struct client *client) {
    char *end = memmem(client->inbox, client->filled, "\r\n\r\n", 4);
    if (!end) return 0;
    end += 4;
    char kept = *end;
    *end = 0;
    char *length = strcasestr(client->inbox, "\r\ncontent-length:");
    bool chunked = strcasestr(client->inbox, "\r\ntransfer-encoding: chunked") != NULL;
    size_t size = end - client->inbox + (length ? strtoul(length + 17, NULL, 10) : 0);
    *end = kept;
    if (chunked) {
        char *last = memmem(end, client->inbox + client->filled - end, "\r\n0\r\n\r\n", 7);
        return last ? (size_t)(last + 7 - client->inbox) : 0;
    }
    return size <= client->filled ? size : 0;
}

static void begin(struct client *client, char *request, size_t size) {
    char body[256];
    char *line = memchr(request, '\r', size), *asked = memmem(request, size, "bench:", 6);
    *line = 0;
    client->dialect = NULL;
    for (struct dialect *each = dialects; each < dialects + 4; each++)
        if (*request == 'P' && strstr(request, each->path)) client->dialect = each;
    if (strncmp(request, "GET /stats", 10) == 0) {
        snprintf(body, sizeof body, "{\"opened\": %ld, \"hangups\": %ld, \"last_hangup_us\": %lu}", opened, hangups,
                 (unsigned long)last_hangup);
        say(client, "200 OK", body);
    } else if (!client->dialect || !asked) {
        say(client, "404 Not Found", "{}");
    } else {
        static const char *names[] = {"", "whole", "burst", "paced", "hold", "silent"};
        for (enum mode mode = WHOLE; mode <= SILENT; mode++)
            if (strncmp(asked + 6, names[mode], strlen(names[mode])) == 0) client->mode = mode;
        client->position = -1;
        client->tokens = client->mode == HOLD ? 1 : client->mode < BURST ? 0 : strtol(asked + 12, NULL, 10);
        push(&ready, client);
    }
}

/* Begin the next request, if it has come whole. */
static void next(struct client *client) {
    size_t size = request_size(client);
    client->mode = IDLE;
    if (!size) return;
    begin(client, client->inbox, size);
    client->filled -= size;
    memmove(client->inbox, client->inbox + size, client->filled);
    client->inbox[client->filled] = 0;
}

/* One write of an answer; false once there is no more to do for now. */
static bool step(struct client *client) {
    struct dialect *dialect = client->dialect;
    long position = client->position++;
    if (client->mode == SILENT || (client->mode == HOLD && position == client->tokens)) return false;
    if (client->mode == WHOLE || position == client->tokens) {
        put(client, client->mode == WHOLE ? dialect->whole : dialect->closing);
        if (client->fd >= 0) next(client);
        return false;
    }
    put(client, position < 0 ? dialect->opening : stamped(dialect, position));
    if (client->fd < 0 || client->mode != PACED || position < 0) return client->fd >= 0;
    client->due += PACE;
    if (!client->blocked) push(&waiting, client);
    return false;
}

static void turn(struct client *client) {
    if (client->fd < 0) { client->next = gone; gone = client; return; }
    if (client->mode == PACED && client->position < 0) client->due = now();
    if (!client->blocked && step(client)) push(&ready, client);
}

static void writable(struct client *client) {
    client->blocked = false;
    if (client->rest.size) put(client, client->rest);
    if (client->fd < 0 || client->blocked) return;
    client->rest.size = 0;
    if (client->mode == PACED && client->position > 0) push(&waiting, client);
    else if (client->mode != IDLE) push(&ready, client);
}

static void readable(struct client *client) {
    while (client->fd >= 0) {
        ssize_t got = recv(client->fd, client->inbox + client->filled, INBOX - 1 - client->filled, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) { drop(client); return; }
        client->filled += got;
        client->inbox[client->filled] = 0;
        if (client->mode == IDLE) next(client);
    }
}

static void take_in(int listener) {
    int fd, yes = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        struct client *client = calloc(1, sizeof *client);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        client->fd = fd;
        client->inbox = malloc(INBOX);
        opened++;
        struct epoll_event event = {EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, {.ptr = client}};
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static void serve(int listener, uint64_t end) {
    struct epoll_event events[EVENTS];
    while (now() < end) {
        uint64_t time = now(), due = waiting.first ? waiting.first->due : time + 1000000;
        int count = epoll_wait(poller, events, EVENTS, ready.first ? 0 : due > time ? (due - time + 999) / 1000 : 0);
        for (int each = 0; each < count; each++) {
            struct client *client = events[each].data.ptr;
            if (!client) { take_in(listener); continue; }
            if (client->fd >= 0 && client->blocked && events[each].events & EPOLLOUT) writable(client);
            if (client->fd >= 0 && events[each].events & ~EPOLLOUT) readable(client);
        }
        for (time = now(); waiting.first && waiting.first->due <= time;) turn(pop(&waiting));
        for (struct client *last = ready.last; ready.first;) {
            struct client *client = pop(&ready);
            turn(client);
            if (client == last) break;
        }
        while (gone) {
            struct client *client = gone;
            gone = client->next;
            free(client->inbox);
            free(client->rest.at);
            free(client);
        }
    }
}

int main(int count, char **words) {
    if (count != 3) { fprintf(stderr, "upstream FOLDER SECONDS\n"); return 2; }
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    load(words[1]);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 4096)) { perror("listen"); return 1; }
    getsockname(listener, (struct sockaddr *)&address, &size);
    poller = epoll_create1(0);
    struct epoll_event event = {EPOLLIN, {.ptr = NULL}};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    serve(listener, now() + (uint64_t)(strtod(words[2], NULL) * 1e6));
    return 0;
}
