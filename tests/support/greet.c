// Writes what is in /data/a.txt to its stdout, on amd64 and on i386, without a C library.
// Built with gcc -m64 or -m32, -nostdlib -static.
static long call(long number, long a, long b, long c) {
	long result;
#ifdef __x86_64__
	__asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
#else
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
#endif
	return result;
}

#ifdef __x86_64__
enum { READ = 0, WRITE = 1, OPEN = 2, EXIT = 60 };
#else
enum { READ = 3, WRITE = 4, OPEN = 5, EXIT = 1 };
#endif

void _start(void) {
	char text[64];
	long file = call(OPEN, (long)"/data/a.txt", 0, 0);
	long got = call(READ, file, (long)text, sizeof text);
	call(WRITE, 1, (long)text, got > 0 ? got : 0);
	call(EXIT, got <= 0, 0, 0);
	for (;;) {
	}
}
