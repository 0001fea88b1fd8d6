// XLA's CPU client takes the memory of a program's temporaries when the program starts and frees it when it ends, and the C library gives so much
// back to the system at once: each step then faults all of it in again, at a few hundred MB/s where the system below is a virtual machine. So large
// blocks are taken here, in the C library's place, and kept when they are freed: never more than has been in use at once.
#define _GNU_SOURCE
#include <stdlib.h>

#ifdef __GLIBC__
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>

extern void *__libc_memalign(size_t, size_t);
extern void *__libc_realloc(void *, size_t);
extern void __libc_free(void *);

// Blocks begin at multiples of unit, by which free tells most other memory from them, and are as long; what is not written of one costs no memory.
// From least on, memory is taken as a block.
//
// They are on small pages. Huge ones were tried: steps took as long, small forward passes of large models a tenth less, but the first step took 7.4
// instead of 5 s, and loading the 3.4 GB of such a model 8 s more: the system finds small pages among those that were just freed, huge ones are new.
static const size_t unit = 2 << 20, least = 4 << 20;

typedef struct {
	char *at;
	size_t size;
	int used;
} block;

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static block *blocks; // all, by address
static size_t count, room;
static size_t held, used, most; // bytes: of all blocks, of those in use, and the most of these at once

// position is the number of blocks that begin before p.
static size_t position(const char *p) {
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (blocks[middle].at < p) low = middle + 1;
		else high = middle;
	}
	return low;
}

// find is the place of the block in use at p, or count.
static size_t find(const char *p) {
	size_t i = position(p);
	return i < count && blocks[i].at == p && blocks[i].used ? i : count;
}

// insert needs room for one more.
static void insert(size_t i, block b) {
	memmove(blocks + i + 1, blocks + i, (count - i) * sizeof *blocks);
	blocks[i] = b;
	count++;
}

static void erase(size_t i) {
	count--;
	memmove(blocks + i, blocks + i + 1, (count - i) * sizeof *blocks);
}

// shrink gives kept blocks back to the system until no more than limit bytes are held, or none is left.
static void shrink(size_t limit) {
	for (size_t i = count; i > 0 && held > limit; i--) {
		block b = blocks[i - 1];
		if (b.used) continue;
		munmap(b.at, b.size);
		held -= b.size;
		erase(i - 1);
	}
}

// map adds a block and returns its place, or count where the system has no memory.
static size_t map(size_t size) {
	char *p = mmap(NULL, size + unit, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED) return count;
	size_t before = -(uintptr_t)p % unit;
	if (before) munmap(p, before);
	munmap(p + before + size, unit - before);
	held += size;
	size_t i = position(p);
	insert(i, (block){p + before, size, 0});
	return i;
}

// take returns NULL for what the C library shall see to.
static void *take(size_t alignment, size_t want) {
	if (want < least || want > SIZE_MAX / 2 || alignment > unit || alignment & (alignment - 1)) return NULL;
	size_t size = (want + unit - 1) / unit * unit;
	char *at = NULL;
	pthread_mutex_lock(&mutex);
	if (room < count + 2) {
		block *more = __libc_realloc(blocks, (2 * room + 64) * sizeof *blocks);
		if (!more) goto out;
		blocks = more;
		room = 2 * room + 64;
	}
	size_t best = count;
	for (size_t i = 0; i < count; i++)
		if (!blocks[i].used && blocks[i].size >= size && (best == count || blocks[i].size < blocks[best].size)) best = i;
	if (best == count) {
		shrink((used + size > most ? used + size : most) - size);
		best = map(size);
		if (best == count) goto out;
	}
	block *b = &blocks[best];
	at = b->at;
	if (b->size > size) {
		insert(best + 1, (block){at + size, b->size - size, 0});
		b->size = size;
	}
	b->used = 1;
	used += size;
	if (used > most) most = used;
out:
	pthread_mutex_unlock(&mutex);
	return at;
}

// join makes one of the blocks i and i+1 if they are kept and lie side by side.
static void join(size_t i) {
	if (i + 1 >= count || blocks[i].used || blocks[i + 1].used || blocks[i].at + blocks[i].size != blocks[i + 1].at) return;
	blocks[i].size += blocks[i + 1].size;
	erase(i + 1);
}

// leave keeps the block at p and says whether there is one.
static int leave(char *p) {
	if (!p || (uintptr_t)p % unit) return 0;
	pthread_mutex_lock(&mutex);
	size_t i = find(p);
	int is = i < count;
	if (is) {
		used -= blocks[i].size;
		blocks[i].used = 0;
		join(i);
		if (i > 0) join(i - 1);
	}
	pthread_mutex_unlock(&mutex);
	return is;
}

// The program's own definitions stand before the C library's for all that it loads.

int posix_memalign(void **p, size_t alignment, size_t size) {
	if (alignment % sizeof(void *) || !alignment || alignment & (alignment - 1)) return EINVAL;
	void *got = take(alignment, size);
	if (!got) got = __libc_memalign(alignment, size);
	if (!got) return ENOMEM;
	*p = got;
	return 0;
}

void *aligned_alloc(size_t alignment, size_t size) {
	void *got = take(alignment, size);
	return got ? got : __libc_memalign(alignment, size);
}

void free(void *p) {
	if (!leave(p)) __libc_free(p);
}

void *realloc(void *p, size_t size) {
	if (!p || (uintptr_t)p % unit) return __libc_realloc(p, size);
	pthread_mutex_lock(&mutex);
	size_t i = find(p), had = i < count ? blocks[i].size : 0;
	pthread_mutex_unlock(&mutex);
	if (!had) return __libc_realloc(p, size);
	void *moved = malloc(size);
	if (!moved) return NULL;
	memcpy(moved, p, had < size ? had : size);
	leave(p);
	return moved;
}

size_t limner_kept(void) {
	pthread_mutex_lock(&mutex);
	size_t kept = held - used;
	pthread_mutex_unlock(&mutex);
	return kept;
}

void limner_trim(void) {
	pthread_mutex_lock(&mutex);
	shrink(0);
	most = used;
	pthread_mutex_unlock(&mutex);
	malloc_trim(0);
}
#else
size_t limner_kept(void) { return 0; }
void limner_trim(void) {}
#endif
