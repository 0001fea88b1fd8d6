package xla

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// findSlice is this machine among those of its TPU slice, without its devices: by the variables that Kubernetes' TPU
// webhook sets, else by what Google Cloud says of a TPU VM. A machine of which neither knows is alone, and so is one
// whose process is bound to its own chips.
func findSlice(env func(string) string, metadata func(attribute string) string) Process {
	alone := Process{Count: 1}
	if env("TPU_PROCESS_BOUNDS") != "" {
		return alone
	}
	names, index := env("TPU_WORKER_HOSTNAMES"), env("TPU_WORKER_ID")
	if names == "" {
		names, index = metadata("worker-network-endpoints"), metadata("agent-worker-number")
	}
	p := Process{Count: len(strings.Split(names, ","))}
	var err error
	if p.Index, err = strconv.Atoi(strings.TrimSpace(index)); err != nil || p.Index >= p.Count {
		return alone
	}
	return p
}

// metadata is an attribute of the virtual machine; "" if there is none, or nobody to ask.
func metadata(attribute string) string {
	request, err := http.NewRequest(http.MethodGet,
		"http://metadata.google.internal/computeMetadata/v1/instance/attributes/"+attribute, nil)
	if err != nil {
		return ""
	}
	request.Header.Set("Metadata-Flavor", "Google")
	client := http.Client{Timeout: 3 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil || response.StatusCode != http.StatusOK {
		return ""
	}
	return string(text)
}

// beside refuses to work together with other processes where the caller does not know how to.
func (o Options) beside(p Process) error {
	switch {
	case !o.Slice:
		return fmt.Errorf(
			"this is machine %d of %d of a TPU slice, counted from 0, and this command works on one machine: "+
				"set TPU_PROCESS_BOUNDS=1,1,1 TPU_CHIPS_PER_PROCESS_BOUNDS=2,2,1 TPU_VISIBLE_DEVICES=0,1,2,3 to use "+
				"this machine's chips alone", p.Index, p.Count)
	case o.Devices > 0:
		return fmt.Errorf("%d devices asked for: on a slice of %d machines all devices work together",
			o.Devices, p.Count)
	}
	return nil
}
