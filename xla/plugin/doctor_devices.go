package plugin

import (
	"errors"

	"limner/xla/pjrt"
)

// clientDevices is what a client reports of its platform and devices.
type clientDevices struct {
	platform, version string
	list              []DeviceReport
}

// listDevices makes a client of a plugin, asks for its devices, and closes it again.
func listDevices(table pjrt.Table, cpuDevices int) (found clientDevices, err error) {
	var options []pjrt.Option
	if cpuDevices > 0 {
		options = append(options, pjrt.Option{Name: "cpu_device_count", Value: int64(cpuDevices)})
	}
	client, err := table.NewClient(options...)
	if err != nil {
		return found, err
	}
	defer func() { err = errors.Join(err, client.Close()) }()
	if found.platform, err = client.Platform(); err != nil {
		return found, err
	}
	if found.version, err = client.Version(); err != nil {
		return found, err
	}
	devices, err := client.Devices()
	for _, d := range devices {
		if d.Local < 0 {
			continue // another machine's
		}
		found.list = append(found.list, DeviceReport{
			Name: d.Name, Kind: d.Kind, MemoryBytes: d.MemoryLimit, InUseBytes: d.MemoryInUse,
		})
	}
	return found, err
}
