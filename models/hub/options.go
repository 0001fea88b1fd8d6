package hub

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"limner/internal/disk"
)

// Options configures a Client.
type Options struct {
	Endpoint string // the Hub's address, without a slash at its end
	Cache    string // the folder that holds models--org--name
	Token    Token  // sent to Endpoint alone
	Offline  bool   // use the cache, ask nobody

	Parallel      int           // files downloaded at a time
	Attempts      int           // tries in a row that bring nothing new before giving up
	StallTimeout  time.Duration // without a byte, or with less than 1 kB a second, before a connection is given up
	RetryDelay    time.Duration // before the first new try; doubled for each further one
	MaxRetryDelay time.Duration // the longest of these, and of what a server may ask for

	// Log is called with lines for the user, Progress with the bytes of a whole fetch, by one goroutine at a time.
	// Either may be nil.
	Log      func(line string)
	Progress func(done, total int64, file string)
}

// DefaultOptions has everything but the cache's folder.
func DefaultOptions() Options {
	return Options{
		Endpoint:      "https://huggingface.co",
		Parallel:      4,
		Attempts:      6,
		StallTimeout:  30 * time.Second,
		RetryDelay:    time.Second,
		MaxRetryDelay: 5 * time.Minute,
	}
}

// OptionsFrom reads the environment variables that Python's huggingface_hub reads, with its
// meaning and defaults: HF_ENDPOINT, HF_HOME, XDG_CACHE_HOME, HF_HUB_CACHE, HUGGINGFACE_HUB_CACHE,
// HF_TOKEN, HUGGING_FACE_HUB_TOKEN, HF_TOKEN_PATH, HF_HUB_OFFLINE, TRANSFORMERS_OFFLINE. It reads
// the token's file.
func OptionsFrom(getenv func(string) string) (Options, error) {
	o := DefaultOptions()
	if s := getenv("HF_ENDPOINT"); s != "" {
		o.Endpoint = strings.TrimRight(s, "/")
	}
	first := func(names ...string) string {
		for _, name := range names {
			if s := getenv(name); s != "" {
				return expand(s, getenv)
			}
		}
		return ""
	}
	home := first("HF_HOME")
	if home == "" {
		switch base := first("XDG_CACHE_HOME"); {
		case base != "":
			home = filepath.Join(base, "huggingface")
		case getenv("HOME") != "":
			home = filepath.Join(getenv("HOME"), ".cache", "huggingface")
		}
	}
	o.Cache = first("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
	if o.Cache == "" && home != "" {
		o.Cache = filepath.Join(home, "hub")
	}
	if o.Cache == "" {
		return Options{}, errors.New("no folder for downloaded models: set HF_HOME or HF_HUB_CACHE")
	}
	tokenPath := first("HF_TOKEN_PATH")
	if tokenPath == "" && home != "" {
		tokenPath = filepath.Join(home, "token")
	}
	var err error
	if o.Token, err = readToken(tokenPath, getenv); err != nil {
		return Options{}, err
	}
	offline := getenv("HF_HUB_OFFLINE")
	if offline == "" {
		offline = getenv("TRANSFORMERS_OFFLINE")
	}
	switch strings.ToUpper(offline) {
	case "1", "ON", "YES", "TRUE":
		o.Offline = true
	}
	return o, o.Validate()
}

// readToken prefers the environment to the file, as Python does.
func readToken(path string, getenv func(string) string) (Token, error) {
	for _, name := range []string{"HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"} {
		if s := getenv(name); s != "" {
			t, err := NewToken(s)
			if err != nil {
				return Token{}, fmt.Errorf("%s: %w", name, err)
			}
			return t, nil
		}
	}
	if path == "" {
		return Token{}, nil
	}
	data, err := disk.ReadFile(path, 64<<10)
	if errors.Is(err, fs.ErrNotExist) {
		return Token{}, nil
	}
	if err != nil {
		return Token{}, fmt.Errorf("read the Hub token: %w: set HF_TOKEN_PATH to a file that you can read, or HF_TOKEN",
			err)
	}
	t, err := NewToken(string(data))
	if err != nil {
		return Token{}, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// expand does what Python's expanduser and expandvars do: an unknown variable stays as written.
func expand(s string, getenv func(string) string) string {
	if s == "~" || strings.HasPrefix(s, "~/") {
		if home := getenv("HOME"); home != "" {
			s = home + s[1:]
		}
	}
	return os.Expand(s, func(name string) string {
		if v := getenv(name); v != "" {
			return v
		}
		return "${" + name + "}"
	})
}

// Validate reports every bad field.
func (o Options) Validate() error {
	var errs []error
	if _, err := parseEndpoint(o.Endpoint); err != nil {
		errs = append(errs, err)
	}
	if o.Cache == "" {
		errs = append(errs, errors.New("the cache's folder is empty"))
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"Parallel", o.Parallel}, {"Attempts", o.Attempts}} {
		if n.value < 1 {
			errs = append(errs, fmt.Errorf("%s %d: want at least 1", n.name, n.value))
		}
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"StallTimeout", o.StallTimeout}, {"RetryDelay", o.RetryDelay}, {"MaxRetryDelay", o.MaxRetryDelay}} {
		if d.value <= 0 {
			errs = append(errs, fmt.Errorf("%s %s: want more than 0", d.name, d.value))
		}
	}
	return errors.Join(errs...)
}

// parseEndpoint does not repeat a bad address, which may hold a password.
func parseEndpoint(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errors.New("HF_ENDPOINT is not an address: want one such as https://huggingface.co")
	case u.User != nil:
		return nil, errors.New("HF_ENDPOINT holds a user or password: " +
			"give the address alone, and the token in HF_TOKEN")
	case u.Scheme != "https" && u.Scheme != "http", u.Host == "", u.RawQuery != "", u.Fragment != "":
		return nil, fmt.Errorf("HF_ENDPOINT %q: want an address such as https://huggingface.co", s)
	}
	return u, nil
}
