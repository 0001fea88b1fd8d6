package xla

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"strings"
)

// programKey is all that a compiled program depends on. What the parts are called is what a user reads where one
// differs.
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
			parts = append(parts, fmt.Sprintf("%s (%q, here %q)",
				strings.ToLower(name), fmt.Sprint(other.Field(i)), fmt.Sprint(own.Field(i))))
		}
	}
	return parts
}

// programKey is the key of a program, of which the text and the options are given.
func (b *Backend) programKey(program, options []byte) (key programKey, err error) {
	if key.Plugin, err = b.identity(); err != nil {
		return key, err
	}
	major, minor := b.table.Version()
	key.API, key.Platform, key.Device, key.Devices = fmt.Sprintf("%d.%d", major, minor), b.platform, b.kind, b.n
	if b.CPU() {
		key.Processor = processor()
	}
	text := bytes.TrimPrefix(program, []byte("module @")) // the name, then the rest
	name, _, _ := bytes.Cut(text, []byte(" "))
	key.Name, key.Program, key.Options = string(name), sum(text), sum(options)
	for _, variable := range []string{"XLA_FLAGS", "LIBTPU_INIT_ARGS"} {
		if value := os.Getenv(variable); value != "" {
			key.Flags += variable + "=" + value + " "
		}
	}
	return key, nil
}
