/* The program in the images of the build tests: one static executable that plays every part.
 *
 *   serve [PORT]     HTTP: files of /www; /time, /boot, /coin, /state, /crash, /env answer otherwise;
 *                    reads /data/last.txt, where that is there, on its way down;
 *                    /patient takes a minute, and /grumble complains, where /data/b.txt is not there
 *   health [PORT]    0 when the server answers
 *   cat FILE...      their content
 *   say STATUS WORDS prints words on stdout and stderr, exits with the status
 *   need NAME        fails when the environment has no such variable, and says so
 *   wait             until SIGTERM
 *   am UID           0 when it runs as that user
 *   look [PATH...]   what it is: ids, capabilities, limits, mounts' sizes; the content of the paths
 *   nap SECONDS      sleeps
 *   turns STATE FILE...  in its n-th run (counted in STATE) opens the n-th file, or the last; says the same
 *                    whether that is there or not
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char booted[64];

static void end(int number)
{
    (void)number;
    static const char text[] = "subject: ended by a signal\n";
    if (write(1, text, sizeof text - 1)) {}
    open("/data/last.txt", O_RDONLY);
    _exit(0);
}

static void now(char *into, size_t size)
{
    struct timespec time;
    clock_gettime(CLOCK_REALTIME, &time);
    snprintf(into, size, "%lld.%09ld", (long long)time.tv_sec, time.tv_nsec);
}

static ssize_t load(const char *path, char *into, size_t size)
{
    int fd = open(path, O_RDONLY);
    if (fd < 0) return -1;
    ssize_t length = 0, n;
    while ((n = read(fd, into + length, size - 1 - (size_t)length)) > 0) length += n;
    close(fd);
    into[length] = 0;
    return n < 0 ? -1 : length;
}

static void answer(int to, int status, const char *body)
{
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %d Status\r\nContent-Type: text/html\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                     status, strlen(body));
    if (send(to, head, (size_t)n, MSG_NOSIGNAL) < 0) return;
    if (send(to, body, strlen(body), MSG_NOSIGNAL) < 0) return;
}

static void serve_one(int to)
{
    static char request[16384], body[65536], path[4096];
    size_t length = 0;
    ssize_t n;
    while ((n = read(to, request + length, sizeof request - 1 - length)) > 0) {
        length += (size_t)n;
        request[length] = 0;
        if (strstr(request, "\r\n\r\n")) break;
    }
    char where[1024];
    if (sscanf(request, "%*15s %1023s", where) != 1) return;
    where[strcspn(where, "?")] = 0;
    if (!strcmp(where, "/crash")) {
        fprintf(stderr, "subject: out of order\n");
        _exit(7);
    } else if (!strcmp(where, "/time")) {
        char text[64];
        now(text, sizeof text);
        snprintf(body, sizeof body, "<p>it is now %s</p>\n", text);
        answer(to, 200, body);
    } else if (!strcmp(where, "/boot")) {
        snprintf(body, sizeof body, "<p>up since %s</p>\n", booted);
        answer(to, 200, body);
    } else if (!strcmp(where, "/coin")) {
        unsigned char byte = 0;
        if (getrandom(&byte, 1, 0) != 1) _exit(8);
        answer(to, 200 + byte % 100, "<p>heads or tails</p>\n");
    } else if (!strcmp(where, "/state")) {
        if (load("/state/flag", body, sizeof body) < 0) snprintf(body, sizeof body, "none\n");
        answer(to, 200, body);
    } else if (!strcmp(where, "/patient")) {
        if (load("/data/b.txt", body, sizeof body) < 0) sleep(60);
        answer(to, 200, "<p>done</p>\n");
    } else if (!strcmp(where, "/grumble")) {
        if (load("/data/b.txt", body, sizeof body) < 0) fprintf(stderr, "error: cannot read /data/b.txt\n");
        answer(to, 200, "<p>done</p>\n");
    } else if (!strcmp(where, "/env")) {
        const char *value = getenv("SUBJECT_SAYS");
        snprintf(body, sizeof body, "<p>%s</p>\n", value ? value : "nothing");
        answer(to, 200, body);
    } else {
        snprintf(path, sizeof path, "/www%s%s", where, where[strlen(where) - 1] == '/' ? "index.html" : "");
        if (load(path, body, sizeof body) < 0) answer(to, 404, "<p>not here</p>\n");
        else answer(to, 200, body);
    }
}

static int listen_on(int port, int check)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
    if (check) {
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        return connect(fd, (struct sockaddr *)&address, sizeof address);
    }
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 64)) {
        perror("subject: listen");
        _exit(1);
    }
    return fd;
}

static _Noreturn void serve(int port)
{
    now(booted, sizeof booted);
    int fd = listen_on(port, 0);
    const char *says = getenv("SUBJECT_SAYS");
    printf("subject: listening on %d%s%s\n", port, says ? ", says " : "", says ? says : "");
    fflush(stdout);
    for (;;) {
        int to = accept(fd, 0, 0);
        if (to < 0) continue;
        serve_one(to);
        shutdown(to, SHUT_WR);
        char rest[4096];
        while (read(to, rest, sizeof rest) > 0) {}
        close(to);
    }
}

static int cat(char **paths)
{
    static char content[65536];
    for (; *paths; paths++) {
        ssize_t length = load(*paths, content, sizeof content);
        if (length < 0) {
            fprintf(stderr, "subject: cannot read %s: %s\n", *paths, strerror(errno));
            return 1;
        }
        if (write(1, content, (size_t)length) != length) return 2;
    }
    return 0;
}

static int turns(int count, char **words)
{
    char seen[256];
    ssize_t runs = load(words[0], seen, sizeof seen);
    int state = open(words[0], O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (state < 0 || write(state, "x", 1) != 1) return 1;
    close(state);
    if (runs < 0) runs = 0;
    int file = open(words[runs + 1 < count ? runs + 1 : count - 1], O_RDONLY);
    if (file >= 0) close(file);
    puts("done");
    return 0;
}

static void try(const char *what, long result)
{
    printf("%s: %s\n", what, result < 0 ? strerror(errno) : "done");
}

/* Lines of /proc/self/status that a flag of the run can change. */
static void look_at_status(void)
{
    static char text[65536];
    static const char *const names[] = {"Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp:", "Umask"};
    if (load("/proc/self/status", text, sizeof text) < 0) return;
    for (char *line = strtok(text, "\n"); line; line = strtok(0, "\n"))
        for (size_t n = 0; n < sizeof names / sizeof *names; n++)
            if (!strncmp(line, names[n], strlen(names[n]))) puts(line);
}

static void look_at_size(const char *path)
{
    struct statvfs size;
    if (statvfs(path, &size)) printf("%s: %s\n", path, strerror(errno));
    else printf("%s: %llu bytes%s\n", path, (unsigned long long)size.f_blocks * size.f_frsize,
                size.f_flag & ST_RDONLY ? ", read-only" : "");
}

static int look(char **paths)
{
    static char text[65536];
    /* It tries what changes the machine: never outside of a container. */
    if (readlink("/proc/self/exe", text, sizeof text) != 12 || memcmp(text, "/bin/subject", 12)) return 3;
    look_at_status();
    for (int n = 0; n < RLIM_NLIMITS; n++) {
        struct rlimit limit;
        getrlimit((enum __rlimit_resource)n, &limit);
        printf("limit %d: %llu %llu\n", n, (unsigned long long)limit.rlim_cur, (unsigned long long)limit.rlim_max);
    }
    printf("in %s, process 1: %s\n", getcwd(text, sizeof text), getpid() == 1 ? "yes" : "no");
    gethostname(text, sizeof text);
    printf("host %s\n", text);
    look_at_size("/dev/shm");
    for (char **at = environ; *at; at++) printf("env %s\n", *at);
    for (; *paths; paths++) {
        if (!strncmp(*paths, "size:", 5)) look_at_size(*paths + 5);
        else if (load(*paths, text, sizeof text) < 0) printf("%s: %s\n", *paths, strerror(errno));
        else printf("%s: %s\n", *paths, text);
    }
    try("write to /", open("/written", O_WRONLY | O_CREAT, 0600));
    try("chown", chown("/data", 7, 7));
    try("mkdir", mkdir("/data/made", 0700));
    try("sethostname", sethostname("other", 5));
    try("socket", socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
    try("mount", mount("none", "/data", "tmpfs", 0, ""));
    try("unshare", unshare(CLONE_NEWUSER));
    try("bpf", syscall(SYS_bpf, 0, 0, 0));
    return 0;
}

int main(int argc, char **argv)
{
    const char *part = argc > 1 ? argv[1] : "";
    signal(SIGTERM, end);
    if (!strcmp(part, "serve")) serve(argc > 2 ? atoi(argv[2]) : 8080);
    if (!strcmp(part, "health")) return listen_on(argc > 2 ? atoi(argv[2]) : 8080, 1) ? 1 : 0;
    if (!strcmp(part, "look")) return look(argv + 2);
    if (!strcmp(part, "am") && argc > 2) {
        printf("uid %d\n", (int)getuid());
        return getuid() == (uid_t)atoi(argv[2]) ? 0 : 1;
    }
    if (!strcmp(part, "nap") && argc > 2) return (int)sleep((unsigned)atoi(argv[2]));
    if (!strcmp(part, "cat")) return cat(argv + 2);
    if (!strcmp(part, "turns") && argc > 3) return turns(argc - 2, argv + 2);
    if (!strcmp(part, "say") && argc > 3) {
        printf("out: %s\n", argv[3]);
        fprintf(stderr, "err: %s\n", argv[3]);
        return atoi(argv[2]);
    }
    if (!strcmp(part, "need") && argc > 2) {
        if (getenv(argv[2])) serve(8080);
        fprintf(stderr, "error: %s is not set; run again with -e %s=...\n", argv[2], argv[2]);
        return 1;
    }
    if (!strcmp(part, "wait")) {
        printf("subject: waiting\n");
        fflush(stdout);
        for (;;) pause();
    }
    fprintf(stderr, "subject: what is %s?\n", part);
    return 64;
}
