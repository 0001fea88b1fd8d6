package xla

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strings"

	"limner/xla/pjrt"
)

// programKey is all that a compiled program depends on. What the parts are called is what a user reads where one differs.
type programKey struct {
	Name      string `json:"name"`                // of the function; part of the program's text
	Program   string `json:"program"`             // SHA-256 of its StableHLO
	Options   string `json:"options"`             // SHA-256 of the serialized CompileOptionsProto
	Flags     string `json:"flags,omitempty"`     // what the compiler reads from the environment
	Plugin    string `json:"plugin"`              // its file's name and SHA-256
	API       string `json:"api"`                 // the plugin's version of PJRT's
	Platform  string `json:"platform"`            // the compiler's version, as the plugin says it
	Device    string `json:"device"`              // what the devices are
	Devices   int    `json:"devices"`             // how many
	Processor string `json:"processor,omitempty"` // of a program that is machine code for it
}

// id names the file of a program in the cache.
func (k programKey) id() (string, error) {
	text, err := json.Marshal(k)
	return fmt.Sprintf("%s-%s", k.Name, sum(text)[:32]), err
}

// differences says which parts are other ones in the key of a program that was kept.
func (k programKey) differences(kept programKey) []string {
	var parts []string
	own, other := reflect.ValueOf(k), reflect.ValueOf(kept)
	for i := range own.NumField() {
		if own.Field(i).Interface() == other.Field(i).Interface() {
			continue
		}
		switch name := own.Type().Field(i).Name; name {
		case "Program":
			parts = append(parts, "program (another network, shape or setting, or of another version of limner)")
		case "Options":
			parts = append(parts, "options of the compiler (such as its effort)")
		default:
			parts = append(parts, fmt.Sprintf("%s (%q, here %q)", strings.ToLower(name), fmt.Sprint(other.Field(i)), fmt.Sprint(own.Field(i))))
		}
	}
	return parts
}

// moduleName finds the name of a program, which ends in a number that counts the programs of the process.
var moduleName = regexp.MustCompile(`^module @(\w*?)(_?[0-9]*)(?:\s|$)`)

// unnumbered splits a program's text into the function's name, the module's and what comes behind them.
func unnumbered(text []byte) (name, module string, rest []byte) {
	found := moduleName.FindSubmatchIndex(text)
	if found == nil {
		return "", "", text
	}
	return string(text[found[2]:found[3]]), string(text[found[2]:found[5]]), text[found[5]:]
}

// programKey is the key of a program that is to be compiled.
func (b *Backend) programKey(c *pjrt.Compilation) (key programKey, err error) {
	if key.Plugin, err = b.identity(); err != nil {
		return key, err
	}
	major, minor := b.table.Version()
	key.API, key.Devices = fmt.Sprintf("%d.%d", major, minor), b.n
	options := c.Options
	var kindErr error
	if t := b.target; t != nil {
		options = t.effort.tpu(options)
		key.Platform, err = t.devices.Version()
		key.Device, kindErr = t.devices.DeviceKind()
	} else {
		key.Platform, err = c.ClientVersion()
		key.Device, kindErr = c.DeviceKind()
	}
	if key.Device == "cpu" {
		key.Processor = processor()
	}
	name, _, rest := unnumbered(c.Program)
	hash := sha256.New()
	io.WriteString(hash, name)
	hash.Write(rest)
	key.Name, key.Program, key.Options = name, fmt.Sprintf("%x", hash.Sum(nil)), sum(options)
	for _, variable := range []string{"XLA_FLAGS", "LIBTPU_INIT_ARGS"} {
		if value := os.Getenv(variable); value != "" {
			key.Flags += variable + "=" + value + " "
		}
	}
	return key, errors.Join(err, kindErr)
}
