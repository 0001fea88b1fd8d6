package plugin

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"limner/internal/disk"
	"limner/internal/plaintext"
	"limner/xla/cpu"
)

// headerAPI is the PJRT C API version whose structures xla/pjrt fills in.
const headerAPI = "0.83"

// DoctorOptions say what to check.
type DoctorOptions struct {
	Backend string         // as for [Find]
	Devices int            // how many CPU devices to make; 0 is one
	Install InstallOptions // the plugin is installed if it is missing
	Cache   string         // folder of compiled programs, as in [Options]
	WorkDir string         // the folder that output goes to; empty: the current one
	Timeout time.Duration  // for loading the plugin and finding its devices; 0: a minute
}

// Report is what [Diagnose] found.
type Report struct {
	OK       bool           `json:"ok"` // nothing is wrong
	Backend  string         `json:"backend"`
	Plugin   PluginReport   `json:"plugin"`
	Devices  []DeviceReport `json:"devices"`
	Machine  MachineReport  `json:"machine"`
	Folders  []FolderReport `json:"folders"`
	Problems []Problem      `json:"problems"`
}

// PluginReport describes a PJRT plugin. Fields that could not be found out are empty.
type PluginReport struct {
	Path            string `json:"path"`
	Package         string `json:"package,omitempty"` // if limner installed it
	Version         string `json:"version,omitempty"`
	SHA256          string `json:"sha256,omitempty"`         // which it must have
	Checked         bool   `json:"sha256_checked,omitempty"` // it has that: all of the file was read
	API             string `json:"pjrt_api"`                 // of the plugin
	HeaderAPI       string `json:"pjrt_api_header"`          // that limner is built against
	Platform        string `json:"platform,omitempty"`
	PlatformVersion string `json:"platform_version,omitempty"`
}

// DeviceReport describes one device.
type DeviceReport struct {
	Name        string `json:"name"`
	Kind        string `json:"kind"`
	MemoryBytes int64  `json:"memory_bytes,omitempty"` // available to programs; 0: unknown
	InUseBytes  int64  `json:"in_use_bytes,omitempty"`
}

// MachineReport describes the host.
type MachineReport struct {
	OS              string `json:"os"`
	Arch            string `json:"arch"`
	Cores           int    `json:"cores"`
	MemoryBytes     int64  `json:"memory_bytes,omitempty"` // 0: unknown
	AvailableMemory int64  `json:"available_memory_bytes,omitempty"`
	Go              string `json:"go"`
	Kernels         string `json:"cpu_kernels"` // limner's own, on this processor
}

// FolderReport describes a folder that limner reads or writes.
type FolderReport struct {
	Name       string `json:"name"`
	Path       string `json:"path"`
	Exists     bool   `json:"exists"`
	Writable   bool   `json:"writable"` // the folder, or if it is missing the one to create it in
	FreeBytes  int64  `json:"free_bytes,omitempty"`
	TotalBytes int64  `json:"total_bytes,omitempty"`
}

// Problem is something wrong, and what to do about it.
type Problem struct {
	What string `json:"what"`
	Do   string `json:"do"`
}

// Diagnose checks everything that limner needs from a machine: the plugin, which it installs, loads and asks for its
// devices; memory; folders and their disks. Failures are in the report's Problems, beside all that it could find out.
func Diagnose(ctx context.Context, o DoctorOptions) Report {
	if o.Backend == "" {
		o.Backend = "cpu"
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	r := Report{
		Backend: o.Backend, Devices: []DeviceReport{}, Problems: []Problem{},
		Plugin: PluginReport{HeaderAPI: headerAPI},
	}
	r.machine()
	r.folders(o)
	r.plugin(ctx, o)
	r.OK = len(r.Problems) == 0
	return r
}

func (r *Report) problem(do, what string, args ...any) {
	r.Problems = append(r.Problems, Problem{What: fmt.Sprintf(what, args...), Do: do})
}

// machine describes the host.
func (r *Report) machine() {
	r.Machine = MachineReport{OS: runtime.GOOS, Arch: runtime.GOARCH, Cores: runtime.NumCPU(), Go: runtime.Version()}
	switch on, err := cpu.Enabled(os.Getenv); {
	case err != nil:
		r.problem("set it to on or off, or not at all", "%v", err)
	case on:
		r.Machine.Kernels = cpu.Describe()
	default:
		r.Machine.Kernels = "off by " + cpu.Switch
	}
	r.Machine.MemoryBytes, r.Machine.AvailableMemory = HostMemory()
	if free := r.Machine.AvailableMemory; free > 0 && free < 2e9 {
		r.problem("stop other programs, or use a machine or container with more memory",
			"only %s of memory are available: compiling a model may be killed", gigabytes(free))
	}
}

// plugin installs, checks and opens the plugin.
func (r *Report) plugin(ctx context.Context, o DoctorOptions) {
	path, err := Find(ctx, o.Backend, o.Install)
	if err != nil {
		r.problem("do what the message says, then run limner doctor again", "%v", err)
		return
	}
	r.Plugin.Path = path
	r.shared(path)
	if m, err := markBeside(path); err == nil && m.File == filepath.Base(path) {
		r.Plugin.Package, r.Plugin.Version, r.Plugin.SHA256 = m.Package, m.Version, installedHash(path)
		got, err := fileSHA256(ctx, path)
		switch {
		case err != nil:
			r.problem("check that you may read the file, then run limner doctor again",
				"the plugin %s cannot be checked: %v", path, err)
			return
		case got != r.Plugin.SHA256:
			r.problem("remove the folder "+filepath.Dir(path)+": the next run installs the plugin again",
				"the plugin %s is damaged or was replaced: sha256 %s, want %s", path, got, r.Plugin.SHA256)
			return
		}
		r.Plugin.Checked = true
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	done := make(chan opened, 1)
	go func() { done <- openPlugin(path, o) }()
	select {
	case found := <-done:
		r.opened(found, path)
	case <-ctx.Done():
		r.problem("check that no other program holds the devices, and that the network that "+
			"the plugin asks is reachable",
			"the plugin %s did not answer within %s: %v", path, o.Timeout, ctx.Err())
	}
}

// opened is what a plugin reports of itself.
type opened struct {
	api     string
	devices clientDevices
	loadErr error // the plugin could not be loaded
	err     error // it has no usable devices
}

// openPlugin loads the plugin and asks for its devices. It may take long, or crash in a broken plugin.
func openPlugin(path string, o DoctorOptions) (found opened) {
	if found.loadErr = SetEnv(path); found.loadErr != nil {
		return found
	}
	library, err := Load(path)
	if err != nil {
		found.loadErr = err
		return found
	}
	major, minor := library.Table.Version()
	found.api = fmt.Sprintf("%d.%d", major, minor)
	devices := 0
	if IsCPU(o.Backend, path) {
		devices = max(o.Devices, 1)
	}
	found.devices, found.err = listDevices(library.Table, devices)
	return found
}

// opened adds to the report what the plugin reported.
func (r *Report) opened(found opened, path string) {
	r.Plugin.API = found.api
	if err := checkAddressLimit(); err != nil {
		r.problem("run ulimit -v unlimited, then run limner doctor again", "%v", err)
		return
	}
	if found.loadErr != nil {
		r.problem("give a PJRT plugin for "+r.Machine.OS+"/"+r.Machine.Arch+"; `ldd "+path+
			"` lists libraries that it misses",
			"the plugin does not load: %v", found.loadErr)
		return
	}
	if major, _, _ := strings.Cut(found.api, "."); major != "0" {
		r.problem("use a plugin with PJRT API 0.x", "the plugin has PJRT API %s, limner is built against %s",
			found.api, headerAPI)
	}
	r.Plugin.Platform, r.Plugin.PlatformVersion = found.devices.platform, found.devices.version
	r.Devices = append(r.Devices, found.devices.list...)
	switch {
	case found.err != nil:
		reason, _, _ := strings.Cut(found.err.Error(), "\n")
		r.problem(noDevicesAdvice(path), "the plugin finds no devices: %s", reason)
	case len(r.Devices) == 0:
		r.problem(noDevicesAdvice(path), "the plugin has no devices")
	}
}

// noDevicesAdvice says what to do when a plugin finds no devices.
func noDevicesAdvice(path string) string {
	switch name := strings.ToLower(path); {
	case strings.Contains(filepath.Base(name), "tpu") && !HasTPU("/dev"):
		return "this machine has no TPU (no /dev/accel* or /dev/vfio/*): run on a TPU VM, or use --backend cpu"
	case strings.Contains(filepath.Base(name), "tpu"):
		return "stop other programs that hold the TPU, and check that you may read and write /dev/accel* or " +
			"/dev/vfio/*; or use --backend cpu"
	case strings.Contains(name, "cuda"):
		return "check that nvidia-smi lists a GPU and a driver for CUDA 13, and that NVIDIA's libraries are in " +
			filepath.Join(filepath.Dir(filepath.Dir(path)), "nvidia") + " or in LD_LIBRARY_PATH; or use --backend cpu"
	default:
		return "use a plugin for a device that this machine has, or --backend cpu"
	}
}

// markBeside reads the mark of the installation that path belongs to.
func markBeside(path string) (installMark, error) {
	var m installMark
	data, err := disk.ReadFile(filepath.Join(filepath.Dir(path), markFile), maxMark)
	if err != nil {
		return m, err
	}
	return m, plaintext.JSON(data, &m)
}

// fileSHA256 reads a file and returns its hash in hexadecimal.
func fileSHA256(ctx context.Context, path string) (string, error) {
	f, err := disk.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	return hashOf(ctx, f, info.Size())
}
