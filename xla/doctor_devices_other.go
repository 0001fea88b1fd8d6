//go:build !linux && !darwin

package xla

import (
	"errors"

	"github.com/gomlx/go-xla/pkg/pjrt"
)

// clientDevices is what a client says about its platform and devices.
type clientDevices struct {
	platform, version string
	list              []DeviceReport
}

// listDevices makes a client of a plugin and asks for its devices: their names only on this system.
func listDevices(path string, cpuDevices int) (found clientDevices, err error) {
	plugin, err := pjrt.GetPlugin(path)
	if err != nil {
		return found, err
	}
	var options pjrt.NamedValuesMap
	if cpuDevices > 0 {
		options = pjrt.NamedValuesMap{"cpu_device_count": int64(cpuDevices)}
	}
	client, err := plugin.NewClient(options)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, client.Destroy()) }()
	found.platform, found.version = client.Platform(), client.PlatformVersion()
	for _, device := range client.AddressableDevices() {
		description, err := device.GetDescription()
		if err != nil {
			return found, err
		}
		found.list = append(found.list, DeviceReport{Name: description.DebugString(), Kind: found.platform})
	}
	return found, nil
}
