/*
 * Orders, one a line: `OPERATION FILE WHAT [SKIP [COUNT]]`. OPERATION is read, write, sync or cut (ftruncate); FILE is db, wal, journal or
 * folder; WHAT is the name of an errno, or SHORT (half of it is written), or HOLD (waits until the file of orders changes), or LIE (done
 * is said, nothing is done). The first SKIP operations are let pass, COUNT ones are struck (all, when absent). Counting starts anew when
 * the file changes. To be replaced whole, by rename.
 *
 * A part of disk.c, which has the real functions, the lock and the path of the file.
 */
/* What the orders say of an operation: 0 to let it pass, an errno, or one of these. */
enum { SHORT_ONE = -1, HOLD_ONE = -2, LIE_ONE = -3 };

static int meaning(const char *word) {
    static const struct { const char *name; int value; } words[] = {
        {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EINTR", EINTR}, {"EROFS", EROFS}, {"EFBIG", EFBIG},
        {"SHORT", SHORT_ONE}, {"HOLD", HOLD_ONE}, {"LIE", LIE_ONE},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strcmp(word, words[i].name) == 0) return words[i].value;
    return EIO;
}

static int ordered_once(const char *operation, char file) {
    static struct timespec changed;
    static ino_t inode;
    static long seen[ORDERS];
    struct stat about;
    int answer = 0;
    if (stat(rules, &about) != 0) {
        inode = 0;
        return 0;
    }
    if (about.st_ino != inode || about.st_mtim.tv_sec != changed.tv_sec || about.st_mtim.tv_nsec != changed.tv_nsec) {
        memset(seen, 0, sizeof seen);
        inode = about.st_ino;
        changed = about.st_mtim;
    }
    char text[1024], *rest = NULL;
    int fd = real_open(rules, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : real_read(fd, text, sizeof text - 1);
    if (fd >= 0) real_close(fd);
    text[length < 0 ? 0 : length] = 0;
    int line = 0;
    for (char *order = strtok_r(text, "\n", &rest); order && line < ORDERS; order = strtok_r(NULL, "\n", &rest), line++) {
        char what[32], which[32], how[32];
        long skip = 0, count = -1;
        if (sscanf(order, "%31s %31s %31s %ld %ld", what, which, how, &skip, &count) < 3) continue;
        if (strcmp(what, operation) != 0 || which[0] != file) continue;
        long number = seen[line]++;
        if (!answer && number >= skip && (count < 0 || number < skip + count)) answer = meaning(how);
    }
    return answer;
}

static int ordered(const char *operation, char file) {
    if (!rules[0] || !file) return 0;
    int error = errno, answer;
    for (;;) {
        sigset_t before = enter();
        answer = ordered_once(operation, file);
        leave(before);
        if (answer != HOLD_ONE) break;
        usleep(500);
    }
    errno = error;
    return answer;
}
