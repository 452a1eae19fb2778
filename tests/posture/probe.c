/* Makes system calls as told, without a C library's help, and says what the kernel answered.
 * Usage: probe CALL...   CALL is HOW:NUMBER[:ARGUMENT...]; HOW is n (native), x (x32), i (int 0x80); numbers as strtoull reads them.
 * A line for each: the errno, 0 for none, "signal N" when the call killed a child made for it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <sys/syscall.h>

static long native(unsigned long long n, unsigned long long *a) {
    long ret;
    register long r10 __asm__("r10") = a[3], r8 __asm__("r8") = a[4], r9 __asm__("r9") = a[5];
    __asm__ volatile("syscall" : "=a"(ret) : "a"(n), "D"(a[0]), "S"(a[1]), "d"(a[2]), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return ret;
}

static long old(unsigned long long n, unsigned long long *a) {
    int ret;
    __asm__ volatile("int $0x80" : "=a"(ret) : "a"((int)n), "b"(a[0]), "c"(a[1]), "d"(a[2]) : "memory", "r8", "r9", "r10", "r11");
    return ret;
}

int main(int argc, char **argv) {
    for (int i = 1; i < argc; i++) {
        char *save, *how = strtok_r(argv[i], ":", &save), *word;
        unsigned long long n = strtoull(strtok_r(NULL, ":", &save), NULL, 0), a[6] = {0};
        for (int k = 0; k < 6 && (word = strtok_r(NULL, ":", &save)); k++) a[k] = strtoull(word, NULL, 0);
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            long ret = *how == 'i' ? old(n, a) : native(*how == 'x' ? n | 0x40000000 : n, a);
            _exit(ret < 0 && ret > -200 ? -ret : 0);
        }
        int status;
        waitpid(child, &status, 0);
        if (WIFSIGNALED(status)) printf("signal %d\n", WTERMSIG(status));
        else printf("%d\n", WEXITSTATUS(status));
    }
}
