package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"limner/plan"
	"limner/xla"
	"limner/xla/hlo"
)

// tpuArg is the argument for the programs that make bench-tpu compiled.
const tpuArg = "tpu"

// tpuPeer is what peer_tpu.py reports of a program, for one chip.
type tpuPeer struct {
	Peak     float64 `json:"peak_bytes"`
	Accessed float64 `json:"bytes_accessed"`
	Seconds  float64 `json:"optimal_seconds"`
	FLOP     float64 `json:"flop"`
	Program  string  `json:"program"` // the file of the optimised program

	hbm float64 // counted from it
}

// The topology that peer_tpu.py compiles for, and the images a chip trains on there.
const (
	peerTPU   = "v4-8"
	peerBatch = 4
)

// compareTPU prints the figures that limner plan and peer_tpu.py wrote into a folder side by side: per image, for one
// chip. The rows of a missing file are left out. Traffic is the compilers' own count; hbm is counted in the optimised
// programs of both sides in the same way, without on-chip memory.
func compareTPU(folder string, out io.Writer) error {
	var peers map[string]*tpuPeer
	if found, err := readJSON(filepath.Join(folder, "tpu-peer.json"), &peers); err != nil {
		return err
	} else if !found {
		return fmt.Errorf("no tpu-peer.json in %s: make bench-peers and make bench-tpu write it", folder)
	}
	target, err := xla.FindTopology(peerTPU)
	if err != nil {
		return err
	}
	var results []result
	row := func(name, unit string, ours, peer, scale, goal float64) {
		if ours > 0 && peer > 0 { // 0: unknown to the compiler
			results = append(results, result{
				Name: name, Against: flax.name, Unit: unit, Ours: ours * scale, Peer: peer * scale,
				Ratio: ratio(ours, peer), Goal: goal,
			})
		}
	}
	for name, peer := range peers {
		if err := peer.count(folder, target.Chip); err != nil {
			return fmt.Errorf("%s of the peer: %w", name, err)
		}
	}
	for _, job := range []struct {
		file string
		goal float64
	}{{"tpu-pixels-4", 0.8}, {"tpu-cached-4", 0.5}} {
		r, err := readReport(filepath.Join(folder, job.file+".json"))
		if err != nil {
			return err
		}
		if peer := peers["train"]; peer != nil && r != nil {
			hbm := 0.0
			for _, p := range r.Programs {
				hbm += float64(p.Runs) * p.HBM
			}
			batch := float64(r.Variant.Batch)
			row(job.file+"_time", "ms", r.Seconds/batch, peer.Seconds/peerBatch, 1e3, job.goal)
			row(job.file+"_traffic", "GB", r.BytesPerImage, peer.Accessed/peerBatch, 1e-9, job.goal)
			row(job.file+"_hbm", "GB", hbm/batch, peer.hbm/peerBatch, 1e-9, job.goal)
			row(job.file+"_peak", "GB", float64(r.Peak), peer.Peak, 1e-9, 1)
		}
	}
	r, err := readReport(filepath.Join(folder, "tpu-sample.json"))
	if err != nil {
		return err
	} else if r == nil {
		return printTable(out, results)
	}
	for _, program := range []struct {
		ours, peer string
		goal       float64
	}{{"denoising step", "denoise", 0.7}, {"decoding", "decode", 1}} {
		for _, p := range r.Programs {
			if peer := peers[program.peer]; peer != nil && p.Name == program.ours {
				row(program.peer+"_time", "ms", p.Seconds, peer.Seconds, 1e3, program.goal)
				row(program.peer+"_traffic", "GB", p.Accessed, peer.Accessed, 1e-9, program.goal)
				row(program.peer+"_hbm", "GB", p.HBM, peer.hbm, 1e-9, program.goal)
			}
		}
	}
	return printTable(out, results)
}

// count reads the optimised program, and corrects the compiler's estimate of time, as limner plan does with ours.
func (p *tpuPeer) count(folder string, chip xla.Chip) error {
	program, err := os.ReadFile(filepath.Join(folder, p.Program))
	if err != nil {
		return err
	}
	traffic, err := hlo.CountTraffic(program)
	if err != nil {
		return fmt.Errorf("%s: %w", p.Program, err)
	}
	p.hbm = traffic.Bytes
	p.Seconds = plan.Estimate(p.Seconds, chip.Roofline(p.FLOP, p.hbm))
	return nil
}

// readReport reads the first report of a job, or nil if the job does not fit.
func readReport(path string) (*plan.Report, error) {
	var file struct{ Reports []*plan.Report }
	found, err := readJSON(path, &file)
	if err != nil || !found || len(file.Reports) == 0 || !file.Reports[0].Fits {
		return nil, err
	}
	return file.Reports[0], nil
}

// readJSON reads a file if it is there.
func readJSON(path string, v any) (found bool, err error) {
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}
