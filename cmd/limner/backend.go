package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"

	"limner/xla"
	"limner/xla/plugin"
)

// backendFlags choose the devices.
type backendFlags struct {
	Backend    string `group:"devices" default:"cpu" help:"Devices to compute on: cpu, tpu, cuda, or the path of a PJRT plugin."`
	NumDevices int    `group:"devices" placeholder:"N" help:"How many of them; without it, one CPU device or all others."`
}

// AfterApply refuses a number of devices that was given and is none; where it was not given, it is 0.
func (f *backendFlags) AfterApply(command *kong.Context) error {
	for _, step := range command.Path {
		if step.Flag != nil && step.Flag.Name == "num-devices" && f.NumDevices < 1 {
			return fmt.Errorf("--num_devices %d: want at least 1", f.NumDevices)
		}
	}
	return nil
}

// runFlags choose the devices of a command that runs programs, and where these are kept.
type runFlags struct {
	backendFlags
	CompilationCacheDir string `group:"devices" env:"LIMNER_COMPILATION_CACHE_DIR" placeholder:"DIR" help:"Folder of compiled programs, which the next start loads instead of compiling; off for none. Without it, executables in limner's cache folder."`
}

// executableFlags name programs that were compiled elsewhere.
type executableFlags struct {
	Executable []string `group:"devices" sep:"none" placeholder:"FILE" help:"Programs that were compiled elsewhere for these devices; may be given several times. Where one does not fit, it is said why, and it is compiled."`
}

// devices are those that the flags choose. Programs that the files have are loaded from them.
func (f runFlags) devices(executables ...string) xla.Options {
	return xla.Options{
		Backend: f.Backend, Devices: f.NumDevices, Log: os.Stderr, Cache: f.compilationCache(),
		Executables: executables,
	}
}

// open takes the devices, installing their plugin on first use.
func (f runFlags) open(ctx context.Context, executables ...string) (*xla.Backend, error) {
	return xla.Open(ctx, f.devices(executables...))
}

// compilationCache is the folder of compiled programs; "" for none.
func (f runFlags) compilationCache() string {
	switch f.CompilationCacheDir {
	case "":
		dir, err := plugin.CacheDir(os.Getenv)
		if err != nil {
			fmt.Fprintf(os.Stderr, "compiled programs are not kept: %v\n", err)
			return ""
		}
		return filepath.Join(dir, "executables")
	case "off":
		return ""
	}
	return f.CompilationCacheDir
}
