// Package plugin finds PJRT plugins, installs them from PyPI, checks and loads them, and diagnoses a machine.
package plugin

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"

	"limner/internal/disk"
)

// Wheel pins one PJRT plugin: a file on PyPI, by its hash. A wheel is a zip archive, so no Python is needed to unpack
// it.
type Wheel struct {
	Name     string // the value of --backend: cpu, tpu or cuda
	Package  string // the package's name on PyPI
	Version  string
	Platform string // GOOS/GOARCH
	URL      string // of the wheel
	Size     int64  // of the wheel, in bytes
	SHA256   string // of the wheel, in hexadecimal
	Member   string // the plugin's path inside the wheel
	Unpacked int64  // size of that member, in bytes
	API      string // the PJRT C API version that the plugin reports

	PluginSHA256 string // of that member
}

// Wheels returns the pinned plugins. xla/pjrt fills in the structures of PJRT API 0.83; a plugin
// with another minor version takes them, as every structure carries its size.
//
//   - cpu runs, and every test here runs on it.
//   - tpu compiles, also for TPUs that are not there (see OpenPlan); no TPU was at hand, so no
//     program was run on one.
//   - cuda loads; no GPU was at hand, so it was not run. The wheel holds the plugin only:
//     NVIDIA's libraries (CUDA 13, cuDNN, NCCL) come in wheels of their own, which
//     `pip install "jax[cuda13]"` brings. The plugin looks for them in the folder nvidia
//     beside its own: link the site-packages/nvidia of that environment to
//     <cache>/plugins/nvidia, or name their folders in LD_LIBRARY_PATH.
func Wheels() []Wheel {
	const pypi = "https://files.pythonhosted.org/packages/"
	return []Wheel{{
		Name: "cpu", Package: "xla-cpu-pjrt", Version: "0.0.1", Platform: "linux/amd64",
		URL: pypi + "5d/ca/5487881b30d07396c168749ead36f57dbc4538cafdc535943afc81b3e5a2/" +
			"xla_cpu_pjrt-0.0.1-py3-none-manylinux_2_27_x86_64.whl",
		Size:     63461052,
		SHA256:   "55837b6b7b47daa717f2d9a5a03563ea0ceaa338d06a81a1e2d3f060d960decc",
		Member:   "xla_plugins/xla_cpu_pjrt/xla_cpu_pjrt.so",
		Unpacked: 259284552,
		API:      "0.81",

		PluginSHA256: "88c3f28c5900f48ad4a82cab9e79bba9537809743395e341485f8794268820dc",
	}, {
		Name: "tpu", Package: "libtpu", Version: "0.0.52", Platform: "linux/amd64",
		URL: pypi + "af/48/dacabd7ec15cfd3e57c2836831359d17c53f4b74eb5c0c091675f8e235bd/" +
			"libtpu-0.0.52-cp312-cp312-manylinux_2_31_x86_64.whl",
		Size:     137064515,
		SHA256:   "f76ab1f4d697c346371c50058796f6baa93317b89be8cf8a1012715a2655120d",
		Member:   "libtpu/libtpu.so",
		Unpacked: 467479448,
		API:      "0.117",

		PluginSHA256: "f86de4d04a058e6b5101f73e0824b95f27e2cec996d2b9191d9cffda75c03077",
	}, {
		Name: "cuda", Package: "jax-cuda13-pjrt", Version: "0.12.0.1", Platform: "linux/amd64",
		URL: pypi + "b9/7d/c2ad642908a4e8620c6c9f6eb8b18914cd66804a3c96fb53dc41c05583ab/" +
			"jax_cuda13_pjrt-0.12.0.1-py3-none-manylinux_2_27_x86_64.whl",
		Size:     134922808,
		SHA256:   "5899bb6177eda86ea532afb9a26794f2bdd04966f6a01f9028266b16c2b6cf90",
		Member:   "jax_plugins/xla_cuda13/xla_cuda_plugin.so",
		Unpacked: 395967648,
		API:      "0.116",

		PluginSHA256: "b6de513893c09af2c77e71afcef46d9706f8c259337cdef4cd5cae2353886f75",
	}}
}

// file is the name of the wheel's file, the last element of its URL.
func (w Wheel) file() string { return path.Base(w.URL) }

// plugin is the name of the unpacked plugin's file.
func (w Wheel) plugin() string { return path.Base(w.Member) }

// InstallOptions say where plugins are kept and where progress is written.
type InstallOptions struct {
	CacheDir string              // holds the folder plugins; empty: see [CacheDir]
	Progress io.Writer           // a bar on a terminal, plain lines elsewhere; nil: none
	Getenv   func(string) string // nil: os.Getenv
}

func (o InstallOptions) getenv(key string) string {
	if o.Getenv == nil {
		return os.Getenv(key)
	}
	return o.Getenv(key)
}

// CacheDir is the folder for downloads, which can be repeated: the environment variable LIMNER_CACHE, or limner in the
// user's cache folder.
func CacheDir(getenv func(string) string) (string, error) {
	if dir := getenv("LIMNER_CACHE"); dir != "" {
		return filepath.Abs(dir)
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w: set LIMNER_CACHE to a folder", err)
	}
	return filepath.Join(dir, "limner"), nil
}

// Find returns the absolute path of the PJRT plugin for a backend: cpu (the same as ""), tpu, cuda, or a path, which
// contains a separator or ends in .so, .dylib or .dll and is not installed. The environment variable
// LIMNER_PLUGIN=/path/x.so names the file to use for cpu, tpu and cuda. Without it the pinned wheel is downloaded on
// first use (see [Wheels]); a wheel of the right name that is already in <cache>/plugins is checked and unpacked
// instead. A plugin appears under its final name complete and checked, or not at all, also if several processes install
// it at once.
//
// PyPI has no CPU plugin for macOS, Windows and Linux on arm64: there go-xla's own installer
// fetches one, which has no pinned hash. That path compiles here, but was not run.
func Find(ctx context.Context, name string, opts InstallOptions) (string, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if isPath(name) {
		return pluginFile("--backend", name)
	}
	if name == "" {
		name = "cpu"
	}
	known := false
	var wheel *Wheel
	for _, w := range Wheels() {
		if w.Name != name {
			continue
		}
		known = true
		if w.Platform == platform {
			wheel = &w
		}
	}
	if !known {
		return "", fmt.Errorf("unknown backend %q: use cpu, tpu, cuda, or the path of a PJRT plugin (a .so file)", name)
	}
	if override := opts.getenv("LIMNER_PLUGIN"); override != "" {
		return pluginFile("LIMNER_PLUGIN", override)
	}
	if opts.CacheDir == "" {
		dir, err := CacheDir(opts.getenv)
		if err != nil {
			return "", err
		}
		opts.CacheDir = dir
	}
	switch {
	case wheel != nil:
		return installWheel(ctx, *wheel, opts)
	case name == "cpu":
		return installFromGoXLA(ctx, platform, opts)
	default:
		return "", fmt.Errorf("no %s plugin for %s: use --backend cpu, "+
			"or name a plugin's file with LIMNER_PLUGIN=/path/x.so", name, platform)
	}
}

// IsCPU reports whether the plugin lets us choose the number of devices.
func IsCPU(backend, path string) bool {
	return backend == "cpu" || strings.Contains(filepath.Base(path), "cpu")
}

// isPath says whether name is a plugin's path and not a backend's name.
func isPath(name string) bool {
	if strings.ContainsRune(name, '/') || strings.ContainsRune(name, filepath.Separator) {
		return true
	}
	switch filepath.Ext(name) {
	case ".so", ".dylib", ".dll":
		return true
	}
	return false
}

// pluginFile checks a path that the user gave, by the flag or variable named source.
func pluginFile(source, path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", fmt.Errorf("PJRT plugin from %s: %w: give cpu, tpu, cuda, or the path of a plugin (a .so file)",
			source, err)
	}
	if !info.Mode().IsRegular() {
		return "", fmt.Errorf("PJRT plugin from %s: %s: %w: give the path of a plugin (a .so file)",
			source, path, disk.ErrNotRegular)
	}
	return filepath.Abs(path)
}
