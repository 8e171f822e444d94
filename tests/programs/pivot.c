/* pivot ROOT PROGRAM WORDS...: makes ROOT, a mount point, the root of this mount namespace as container runtimes
 * do (pivot_root(2)), and executes the program in it. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3 || chdir(argv[1]) || syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH) || chdir("/")) {
        perror("pivot");
        return 125;
    }
    execv(argv[2], argv + 2);
    perror("pivot: exec");
    return 125;
}
