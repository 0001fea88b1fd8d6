// XLA's CPU client allocates the memory of a program's temporaries when the program starts and frees it when it ends,
// and the C library gives blocks of that size back to the system at once: each step then faults all of it in again, at
// a few hundred MB/s on a virtual machine. So the plugin's large blocks are allocated here, and kept when they are
// freed: never more than has been in use at once.
//
// Only the plugin's own calls come here: limner_keep_blocks redirects them in its table of imported functions. The rest
// of the process, whatever allocator it uses, is not affected. Of what the C library offers, mallopt(M_MMAP_MAX, 0)
// makes steps as fast, but fragments its heap: a ControlNet's step held 9.1 instead of 5.5 GB in one of two runs.
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>

#if defined __GLIBC__ && defined __LP64__ && (defined __x86_64__ || defined __aarch64__)
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

// Blocks begin at multiples of unit, by which free tells most other memory from them, and their sizes are multiples of
// it; parts that are never written cost no memory. Allocations of least bytes and more become blocks.
//
// They are on small pages. Huge ones were tried: steps took as long, small forward passes of large models a tenth less,
// but the first step took 7.4 instead of 5 s, and loading the 3.4 GB of such a model 8 s more: the system finds small
// pages among those that were just freed, huge ones are new.
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
		block *more = realloc(blocks, (2 * room + 64) * sizeof *blocks);
		if (!more) goto out;
		blocks = more;
		room = 2 * room + 64;
	}
	size_t best = count;
	for (size_t i = 0; i < count; i++)
		if (!blocks[i].used && blocks[i].size >= size && (best == count || blocks[i].size < blocks[best].size))
			best = i;
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
	if (i + 1 >= count || blocks[i].used || blocks[i + 1].used || blocks[i].at + blocks[i].size != blocks[i + 1].at)
		return;
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

// What the plugin calls in place of the C library's functions, or another allocator's.

static int take_aligned(void **p, size_t alignment, size_t size) {
	void *got = take(alignment, size);
	if (!got) return posix_memalign(p, alignment, size);
	*p = got;
	return 0;
}

static void *take_alone(size_t alignment, size_t size) {
	void *got = take(alignment, size);
	return got ? got : aligned_alloc(alignment, size);
}

static void release(void *p) {
	if (!leave(p)) free(p);
}

static void *resize(void *p, size_t size) {
	if (!p || (uintptr_t)p % unit) return realloc(p, size);
	pthread_mutex_lock(&mutex);
	size_t i = find(p), had = i < count ? blocks[i].size : 0;
	pthread_mutex_unlock(&mutex);
	if (!had) return realloc(p, size);
	void *moved = malloc(size);
	if (!moved) return NULL;
	memcpy(moved, p, had < size ? had : size);
	leave(p);
	return moved;
}

static const struct {
	const char *name;
	void *ours;
} replaced[] = {
	{"posix_memalign", take_aligned}, {"aligned_alloc", take_alone}, {"free", release}, {"realloc", resize},
};

#ifdef __x86_64__
enum { import_call = R_X86_64_JUMP_SLOT, import_address = R_X86_64_GLOB_DAT };
#else
enum { import_call = R_AARCH64_JUMP_SLOT, import_address = R_AARCH64_GLOB_DAT };
#endif

// library is what the loader knows of a shared library that takes part in this.
typedef struct {
	char *base;
	const Elf64_Sym *symbols;
	const char *names;
	const Elf64_Rela *imports[2]; // of calls, and of addresses
	size_t sizes[2];
} library;

// redirect writes the address of ours into the place of an import. seal closes the page again where the loader had
// closed it for writing.
static int redirect(void **place, void *ours) {
	uintptr_t page = (uintptr_t)place & -(uintptr_t)sysconf(_SC_PAGESIZE);
	size_t size = (uintptr_t)(place + 1) - page;
	if (mprotect((void *)page, size, PROT_READ | PROT_WRITE)) return 0;
	__atomic_store_n(place, ours, __ATOMIC_SEQ_CST);
	return 1;
}

// seal closes the part of a library that the loader had closed.
static int seal(struct dl_phdr_info *info, size_t size, void *base) {
	(void)size;
	if ((char *)info->dlpi_addr != base) return 0;
	uintptr_t page = -(uintptr_t)sysconf(_SC_PAGESIZE);
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const Elf64_Phdr *part = &info->dlpi_phdr[i];
		if (part->p_type != PT_GNU_RELRO) continue;
		uintptr_t begin = info->dlpi_addr + part->p_vaddr, end = (begin + part->p_memsz) & page;
		begin &= page;
		if (end > begin) mprotect((void *)begin, end - begin, PROT_READ);
	}
	return 1;
}

// imports reads the loader's tables of a library.
static library imports(const struct link_map *map) {
	library l = {.base = (char *)map->l_addr};
	for (const Elf64_Dyn *d = map->l_ld; d->d_tag != DT_NULL; d++) switch (d->d_tag) {
		case DT_SYMTAB: l.symbols = (const void *)d->d_un.d_ptr; break;
		case DT_STRTAB: l.names = (const void *)d->d_un.d_ptr; break;
		case DT_JMPREL: l.imports[0] = (const void *)d->d_un.d_ptr; break;
		case DT_PLTRELSZ: l.sizes[0] = d->d_un.d_val; break;
		case DT_RELA: l.imports[1] = (const void *)d->d_un.d_ptr; break;
		case DT_RELASZ: l.sizes[1] = d->d_un.d_val; break;
		}
	return l;
}

// limner_keep_blocks redirects the calls of the library in which an address lies, and returns how many places it wrote:
// 0 where it could not. No program of the library may be running yet.
int limner_keep_blocks(uintptr_t inside) {
	Dl_info info;
	struct link_map *map = NULL;
	if (!dladdr1((const void *)inside, &info, (void **)&map, RTLD_DL_LINKMAP) || !map) return 0;
	library l = imports(map);
	if (!l.symbols || !l.names) return 0;
	int written = 0;
	for (int table = 0; table < 2; table++) {
		const Elf64_Rela *r = l.imports[table];
		for (size_t i = 0; r && i < l.sizes[table] / sizeof *r; i++) {
			uint32_t type = ELF64_R_TYPE(r[i].r_info);
			if (type != import_call && type != import_address) continue;
			const char *name = l.names + l.symbols[ELF64_R_SYM(r[i].r_info)].st_name;
			for (size_t k = 0; k < sizeof replaced / sizeof *replaced; k++)
				if (!strcmp(name, replaced[k].name))
					written += redirect((void **)(l.base + r[i].r_offset), replaced[k].ours);
		}
	}
	dl_iterate_phdr(seal, l.base);
	return written;
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
int limner_keep_blocks(uintptr_t inside) { return 0; }
size_t limner_kept(void) { return 0; }
void limner_trim(void) {}
#endif
