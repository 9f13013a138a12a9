/* The limit: what is left of a server when only what the kernel does for an answer is left.
 *
 *     limit [--by memory|splice|sendfile|tee] PORT FILE...
 *
 * One thread takes connections and requests by io_uring and answers at once, without waiting. A request is what ends
 * with an empty line and comes in one piece; its path is the name of one of the files. Anything else ends the
 * connection: this is no server, and not for a network.
 *
 * --by is how a body is sent. Without it each file is sent by what is fastest at its size (by_size).
 *
 *     memory    copied from memory, behind the head, by one send(2)
 *     splice    from the page cache through a pipe, splice(2) twice for each PIPE_BYTES
 *     sendfile  from the page cache, by sendfile(2)
 *     tee       head and pages wait in pipes; tee(2) takes further references to them, and splice(2) sends those
 *
 * Build: cc -O2 -Wall -Wextra -o limit limit.c -luring
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    ENTRIES = 1024,
    COMPLETIONS = 8 * ENTRIES,
    BACKLOG = 4096,
    BUFFERS = 4096, /* a power of two: io_uring_register_buf_ring(3) */
    BUFFER_BYTES = 1024,
    BUFFER_GROUP = 0,
    FILES_MOST = 16,
    CONNECTIONS_MOST = 16384,
    HEAD_MOST = 128,
    PIPE_BYTES = 256 * 1024,
    QUANTUM = 512 * 1024, /* what a connection sends before it is the next one's turn */
    MEMORY_MOST = 4096,
    TEE_MOST = 1024 * 1024,
};

/* What a completion is of: the low bits of its user data, whose other bits are those of a pointer. */
enum operation { ACCEPT, RECEIVE, WRITABLE, OPERATION_BITS = 3 };

enum by { BY_SIZE, MEMORY, SPLICE, SENDFILE, TEE };

struct file {
    const char *name;
    size_t name_length;
    int fd;
    size_t size;
    size_t head; /* bytes of it */
    enum by by;
    char *bytes;     /* the head, and with MEMORY the body behind it */
    int (*parts)[2]; /* with TEE: pipes that hold head and body, in order */
};

struct connection {
    int fd;
    const struct file *file; /* what is being sent, or NULL */
    size_t sent;             /* of head and body */
    int pipe[2];             /* pipe[0] is -1 where there is none */
    size_t piped;            /* bytes in it */
    int part;                /* the next one of the file's */
    int pending;             /* operations under way, and its place in the queue */
    struct connection *next; /* in the queue */
};

static struct io_uring ring;
static struct io_uring_buf_ring *buffers;
static char (*buffer_bytes)[BUFFER_BYTES];
static struct file files[FILES_MOST];
static int file_count;
static struct connection *queue, **queue_end = &queue; /* those that have sent their quantum */
static int pipes[CONNECTIONS_MOST][2], pipe_count;      /* empty ones */

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* --- the ring ------------------------------------------------------------- */

static struct io_uring_sqe *free_entry(void)
{
    struct io_uring_sqe *entry = io_uring_get_sqe(&ring);
    if (entry)
        return entry;
    io_uring_submit(&ring);
    return io_uring_get_sqe(&ring);
}

static void accept_all(int listener)
{
    struct io_uring_sqe *entry = free_entry();
    io_uring_prep_multishot_accept(entry, listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    entry->user_data = ACCEPT;
}

static void receive(struct connection *connection)
{
    struct io_uring_sqe *entry = free_entry();
    io_uring_prep_recv_multishot(entry, connection->fd, NULL, 0, 0);
    entry->flags |= IOSQE_BUFFER_SELECT;
    entry->buf_group = BUFFER_GROUP;
    entry->user_data = (uintptr_t)connection | RECEIVE;
    connection->pending++;
}

static void wait_writable(struct connection *connection)
{
    struct io_uring_sqe *entry = free_entry();
    io_uring_prep_poll_add(entry, connection->fd, POLLOUT);
    entry->user_data = (uintptr_t)connection | WRITABLE;
    connection->pending++;
}

static void give_back(int buffer)
{
    io_uring_buf_ring_add(buffers, buffer_bytes[buffer], BUFFER_BYTES, buffer, BUFFERS - 1, 0);
    io_uring_buf_ring_advance(buffers, 1);
}

static void set_up_buffers(void)
{
    if (posix_memalign((void **)&buffers, 4096, BUFFERS * sizeof(struct io_uring_buf)))
        die("memory");
    buffer_bytes = malloc((size_t)BUFFERS * BUFFER_BYTES);
    struct io_uring_buf_reg registration = {
        .ring_addr = (uintptr_t)buffers, .ring_entries = BUFFERS, .bgid = BUFFER_GROUP};
    errno = -io_uring_register_buf_ring(&ring, &registration, 0);
    if (errno)
        die("io_uring_register_buf_ring");
    io_uring_buf_ring_init(buffers);
    for (int buffer = 0; buffer < BUFFERS; buffer++)
        give_back(buffer);
}

static void set_up_ring(void)
{
    struct io_uring_params parameters = {
        .flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_CQSIZE,
        .cq_entries = COMPLETIONS,
    };
    errno = -io_uring_queue_init_params(ENTRIES, &ring, &parameters);
    if (errno)
        die("io_uring_setup (it needs Linux 6.1)");
    io_uring_register_ring_fd(&ring);
    set_up_buffers();
}

/* --- pipes ---------------------------------------------------------------- */

static void open_pipe(int ends[2])
{
    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0 || fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES) < 0)
        die("pipe");
}

static void take_pipe(struct connection *connection)
{
    if (connection->pipe[0] >= 0)
        return;
    if (pipe_count > 0)
        memcpy(connection->pipe, pipes[--pipe_count], sizeof connection->pipe);
    else
        open_pipe(connection->pipe);
}

static void put_pipe(struct connection *connection)
{
    if (connection->pipe[0] < 0)
        return;
    if (connection->piped == 0 && pipe_count < CONNECTIONS_MOST) {
        memcpy(pipes[pipe_count++], connection->pipe, sizeof connection->pipe);
    } else {
        close(connection->pipe[0]);
        close(connection->pipe[1]);
    }
    connection->pipe[0] = -1;
}

/* --- responses ------------------------------------------------------------ */

static size_t left(const struct connection *connection)
{
    return connection->file->head + connection->file->size - connection->sent;
}

/* Each of these sends a piece, and returns what its system call did. */

static ssize_t send_bytes(struct connection *connection, size_t length, int flags)
{
    return send(connection->fd, connection->file->bytes + connection->sent, length, flags);
}

static ssize_t send_by_sendfile(struct connection *connection)
{
    off_t offset = connection->sent - connection->file->head;
    size_t most = left(connection) < QUANTUM ? left(connection) : QUANTUM;
    return sendfile(connection->fd, connection->file->fd, &offset, most);
}

static ssize_t send_from_pipe(struct connection *connection)
{
    unsigned more = left(connection) > connection->piped ? SPLICE_F_MORE : 0;
    ssize_t count =
        splice(connection->pipe[0], NULL, connection->fd, NULL, connection->piped, SPLICE_F_NONBLOCK | more);
    if (count > 0)
        connection->piped -= count;
    return count;
}

static ssize_t send_by_splice(struct connection *connection)
{
    take_pipe(connection);
    if (connection->piped == 0) {
        loff_t offset = connection->sent - connection->file->head;
        ssize_t count =
            splice(connection->file->fd, &offset, connection->pipe[1], NULL, PIPE_BYTES, SPLICE_F_NONBLOCK);
        if (count <= 0)
            die("splice(2) from a file");
        connection->piped = count;
    }
    return send_from_pipe(connection);
}

static ssize_t send_by_tee(struct connection *connection)
{
    take_pipe(connection);
    if (connection->piped == 0) {
        int from = connection->file->parts[connection->part++][0];
        ssize_t count = tee(from, connection->pipe[1], INT32_MAX, SPLICE_F_NONBLOCK);
        if (count <= 0)
            die("tee(2)");
        connection->piped = count;
    }
    return send_from_pipe(connection);
}

static ssize_t send_piece(struct connection *connection)
{
    const struct file *file = connection->file;
    if (file->by == TEE)
        return send_by_tee(connection);
    if (file->by == MEMORY)
        return send_bytes(connection, left(connection), 0);
    if (connection->sent < file->head)
        return send_bytes(connection, file->head - connection->sent, MSG_MORE);
    return file->by == SPLICE ? send_by_splice(connection) : send_by_sendfile(connection);
}

static void enqueue(struct connection *connection)
{
    connection->next = NULL;
    *queue_end = connection;
    queue_end = &connection->next;
    connection->pending++;
}

/* Sends until all is sent, or the socket is full, or the quantum is. False if the connection is broken. */
static int advance(struct connection *connection)
{
    size_t end = connection->sent + QUANTUM;
    while (left(connection) > 0) {
        if (connection->sent >= end) {
            enqueue(connection);
            return 1;
        }
        ssize_t count = send_piece(connection);
        if (count < 0 && errno == EAGAIN) {
            wait_writable(connection);
            return 1;
        }
        if (count <= 0)
            return 0;
        connection->sent += count;
    }
    connection->file = NULL;
    put_pipe(connection);
    return 1;
}

/* --- connections ---------------------------------------------------------- */

/* The file of "GET /NAME HTTP/1.1...", or NULL. */
static const struct file *requested(const char *request, size_t length)
{
    if (length < 8 || memcmp(request + length - 4, "\r\n\r\n", 4) != 0)
        return NULL;
    for (const struct file *file = files; file < files + file_count; file++)
        if (length > 5 + file->name_length && request[5 + file->name_length] == ' ' &&
            memcmp(request + 5, file->name, file->name_length) == 0)
            return file;
    return NULL;
}

static int answer(struct connection *connection, const char *request, size_t length)
{
    if (connection->file || !(connection->file = requested(request, length)))
        return 0;
    connection->sent = 0;
    connection->part = 0;
    return advance(connection);
}

static void open_connection(int fd)
{
    struct connection *connection = calloc(1, sizeof *connection);
    connection->fd = fd;
    connection->pipe[0] = -1;
    receive(connection);
}

/* Its operations complete then, and the last one closes it. */
static void end(struct connection *connection)
{
    shutdown(connection->fd, SHUT_RDWR);
}

/* One of its operations is over. */
static void settle(struct connection *connection)
{
    if (--connection->pending > 0)
        return;
    put_pipe(connection);
    close(connection->fd);
    free(connection);
}

static void received(struct connection *connection, const struct io_uring_cqe *completion)
{
    /* ENOBUFS: all buffers are full, and will be given back before the next receive. */
    int ended = completion->res <= 0 && completion->res != -ENOBUFS;
    if (completion->flags & IORING_CQE_F_BUFFER) {
        int buffer = completion->flags >> IORING_CQE_BUFFER_SHIFT;
        ended = ended || !answer(connection, buffer_bytes[buffer], completion->res);
        give_back(buffer);
    }
    if (ended)
        end(connection);
    if (completion->flags & IORING_CQE_F_MORE)
        return;
    if (!ended)
        receive(connection);
    settle(connection);
}

/* The socket is writable, or its turn has come. */
static void go_on(struct connection *connection)
{
    if (!advance(connection))
        end(connection);
    settle(connection);
}

static void completed(const struct io_uring_cqe *completion, int listener)
{
    struct connection *connection = (void *)(uintptr_t)(completion->user_data & ~(uint64_t)OPERATION_BITS);
    switch ((enum operation)(completion->user_data & OPERATION_BITS)) {
    case ACCEPT:
        if (completion->res >= 0)
            open_connection(completion->res);
        if (!(completion->flags & IORING_CQE_F_MORE))
            accept_all(listener);
        break;
    case RECEIVE:
        received(connection, completion);
        break;
    default:
        go_on(connection);
    }
}

static void run_queue(void)
{
    struct connection *connection = queue, *next;
    queue = NULL;
    queue_end = &queue;
    for (; connection; connection = next) {
        next = connection->next;
        go_on(connection);
    }
}

static void serve(int listener)
{
    struct io_uring_cqe *completion;
    accept_all(listener);
    for (;;) {
        unsigned head, count = 0;
        if (queue)
            io_uring_submit_and_get_events(&ring);
        else
            io_uring_submit_and_wait(&ring, 1);
        io_uring_for_each_cqe(&ring, head, completion)
        {
            completed(completion, listener);
            count++;
        }
        io_uring_cq_advance(&ring, count);
        run_queue();
    }
}

/* --- start ---------------------------------------------------------------- */

static enum by by_size(size_t size)
{
    return size <= MEMORY_MOST ? MEMORY : size <= TEE_MOST ? TEE : SPLICE;
}

static void read_body(const struct file *file)
{
    for (size_t done = 0; done < file->size;) {
        ssize_t count = pread(file->fd, file->bytes + file->head + done, file->size - done, done);
        if (count <= 0)
            die(file->name);
        done += count;
    }
}

static void fill_parts(struct file *file)
{
    loff_t offset = 0;
    file->parts = calloc(2 + file->size / (PIPE_BYTES / 2), sizeof *file->parts);
    for (int part = 0; offset < (loff_t)file->size; part++) {
        open_pipe(file->parts[part]);
        if (part == 0 && write(file->parts[part][1], file->bytes, file->head) < 0)
            die("write to a pipe");
        if (splice(file->fd, &offset, file->parts[part][1], NULL, PIPE_BYTES, SPLICE_F_NONBLOCK) <= 0)
            die("splice(2) from a file");
    }
}

static void open_file(const char *path, enum by by)
{
    struct file *file = &files[file_count++];
    struct stat status;
    const char *slash = strrchr(path, '/');
    file->name = slash ? slash + 1 : path;
    file->name_length = strlen(file->name);
    file->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (file->fd < 0 || fstat(file->fd, &status) < 0)
        die(path);
    file->size = status.st_size;
    file->by = by == BY_SIZE ? by_size(file->size) : by;
    file->bytes = malloc(HEAD_MOST + (file->by == MEMORY ? file->size : 0));
    file->head =
        snprintf(file->bytes, HEAD_MOST, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", file->size);
    if (file->by == MEMORY)
        read_body(file);
    if (file->by == TEE)
        fill_parts(file);
}

static int listen_on(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, BACKLOG) < 0)
        die("listen");
    return listener;
}

static void raise_file_limit(void)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

static enum by named(const char *name)
{
    const char *names[] = {[MEMORY] = "memory", [SPLICE] = "splice", [SENDFILE] = "sendfile", [TEE] = "tee"};
    for (enum by by = MEMORY; by <= TEE; by++)
        if (strcmp(names[by], name) == 0)
            return by;
    fprintf(stderr, "limit: --by %s: memory, splice, sendfile or tee is meant\n", name);
    exit(2);
}

int main(int count, char **arguments)
{
    enum by by = BY_SIZE;
    if (count > 2 && strcmp(arguments[1], "--by") == 0) {
        by = named(arguments[2]);
        arguments += 2;
        count -= 2;
    }
    if (count < 3 || count - 2 > FILES_MOST) {
        fprintf(stderr, "usage: limit [--by memory|splice|sendfile|tee] PORT FILE... (at most %d)\n", FILES_MOST);
        return 2;
    }
    raise_file_limit();
    /* A client that has gone is told by EPIPE; splice(2) and sendfile(2) have no flag for that. */
    signal(SIGPIPE, SIG_IGN);
    for (char **path = arguments + 2; *path; path++)
        open_file(*path, by);
    set_up_ring();
    serve(listen_on(atoi(arguments[1])));
}
