// A 32-bit program without a C library: stat64, connect by socketcall, openat with O_PATH, exit.
// Built with gcc -m32 -nostdlib -static.
static int call(int number, long a, long b, long c) {
	int result;
	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

void _start(void) {
	char stat[128];
	struct {
		unsigned short family;
		char path[108];
	} address = {1, "/data/socket32"};
	long arguments[3] = {-1, (long)&address, sizeof address};
	call(195, (long)"/data/stat32", (long)stat, 0);
	call(102, 3, (long)arguments, 0);
	call(295, -100, (long)"data/opath32", 0x200000);
	call(1, 32, 0, 0);
}
