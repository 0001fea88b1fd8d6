// Command bench measures limner against its peers on this machine's CPU: diffusers' own networks in Flax and in
// PyTorch, and stable-diffusion.cpp, whose networks have Stable Diffusion's sizes and no others; for reading datasets
// the datasets library with torch's DataLoader and Pillow, for making them a script with Pillow, OpenCV and pyarrow.
//
//	make bench-peers                      # once: the peers' environments, in bench/venv*
//	make bench                            # every case, bench/results.json
//	go run ./bench sd15_unet_forward      # one case, nothing written
//	go run ./bench update pairs_512       # some cases, in place of their older results
//	go run ./bench warm sd15_unet_forward # starts of a process that compiles, and of one that loads the result
//	go run ./bench tpu                    # what make bench-tpu compiled, ours beside Flax
//	go run ./bench load sd15              # time and memory of loading a model of full size: sd15, sd21 or sdxl
//
// Each case runs in a process of ours (this program again, as `bench worker CASE`) and one of each peer (peer.py CASE,
// peer_torch.py CASE, peer_sdcpp.py CASE), all given the same network, shapes, optimizer and number of threads. Each
// compiles, makes a step that is not counted, and then waits. Rounds of a few steps alternate between them, so that
// other load on the machine affects all alike; only sides that do not fit into memory together run one after the other.
// The result is the least cost of a step on each side over all rounds:
//
//   - wall: seconds of a step, from the batch on the host to the loss or the output on the host
//   - cpu: user and system seconds of the whole process during a step
//   - compile_wall, compile_cpu: the same of building, tracing and compiling the program, measured once
//   - start_wall: seconds from the start of the process, with its imports, to the end of its first step, measured once
//   - peak_rss: the most memory that the process ever held (VmHWM), compiler and weights included; of a loader with
//     workers that of all processes, what they share counted once
//   - not_aliased: bytes of the training state that a step does not write in place, by the compiler's own statistics
//     (ours is zero if the state never doubles; the peer's figure is the size of its state)
//
// ratio is ours over the peer's, smaller is better; goal is the largest acceptable ratio, given with each case.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	args := os.Args[1:]
	var err error
	switch {
	case (len(args) == 2 || len(args) == 3) && args[0] == workerArg:
		err = work(ctx, args[1], strings.Join(args[2:], ""), os.Stdin, os.Stdout)
	case len(args) >= 2 && args[0] == warmArg:
		err = warm(ctx, args[1:], os.Stdout)
	case len(args) == 1 && args[0] == tpuArg:
		err = compareTPU("bench", os.Stdout)
	case len(args) == 3 && args[0] == loadWorkerArg:
		err = loadWorker(ctx, args[1], args[2], os.Stdout)
	case len(args) == 2 && args[0] == loadArg:
		err = load(ctx, args[1], os.Stdout)
	case len(args) >= 2 && args[0] == updateArg:
		err = bench(ctx, args[1:], true, os.Stdout)
	default:
		err = bench(ctx, args, false, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}
