// The dtypes between which move changes elements.
enum { bits16, f32, f16, bf16, f64, u8 }; // bits16 only moves

// How the order of elements changes, in terms of a matrix [out, in·area] in a file's order: see limner_move.
enum { same_order, to_memory, to_file };

long limner_move(void *to, int to_dtype, const void *from, int from_dtype, long out, long in, long area, int order,
	long begin, long end, long first);
