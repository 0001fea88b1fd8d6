package hub

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestOptionsFrom(t *testing.T) {
	dir := t.TempDir()
	for name, token := range map[string]string{
		"token": "hf_home\n", "other": " hf_other\r\n", "empty": "\n", "bad": "two\nlines",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	type env = map[string]string
	for name, c := range map[string]struct {
		env                    env
		endpoint, cache, token string
		offline                bool
		err                    string
	}{
		"defaults": {env: env{"HOME": "/home/u"}, cache: "/home/u/.cache/huggingface/hub"},
		"XDG":      {env: env{"HOME": "/home/u", "XDG_CACHE_HOME": "/x"}, cache: "/x/huggingface/hub"},
		"HF_HOME": {
			env: env{"HOME": "/home/u", "XDG_CACHE_HOME": "/x", "HF_HOME": dir}, cache: dir + "/hub", token: "hf_home",
		},
		"HF_HOME expanded": {
			env: env{"HOME": "/home/u", "BIG": "/big", "HF_HOME": "$BIG/${NONE}/hf"}, cache: "/big/${NONE}/hf/hub",
		},
		"tilde": {env: env{"HOME": "/home/u", "HF_HUB_CACHE": "~/c"}, cache: "/home/u/c"},
		"HF_HUB_CACHE": {
			env:   env{"HF_HOME": dir, "HF_HUB_CACHE": "/c", "HUGGINGFACE_HUB_CACHE": "/old"},
			cache: "/c", token: "hf_home",
		},
		"old name": {env: env{"HF_HOME": "/h", "HUGGINGFACE_HUB_CACHE": "/old"}, cache: "/old"},
		"HF_TOKEN": {
			env: env{"HF_HOME": dir, "HF_TOKEN": " hf_env\n"}, cache: dir + "/hub", token: "hf_env",
		},
		"HF_TOKEN_PATH": {
			env: env{"HF_HOME": dir, "HF_TOKEN_PATH": dir + "/other"}, cache: dir + "/hub", token: "hf_other",
		},
		"empty token":   {env: env{"HF_HOME": dir, "HF_TOKEN_PATH": dir + "/empty"}, cache: dir + "/hub"},
		"no token file": {env: env{"HF_HOME": dir, "HF_TOKEN_PATH": dir + "/none"}, cache: dir + "/hub"},
		"endpoint": {
			env: env{"HF_HOME": "/h", "HF_ENDPOINT": "http://mirror:8080/hf/"}, cache: "/h/hub",
			endpoint: "http://mirror:8080/hf",
		},
		"offline": {env: env{"HF_HOME": "/h", "HF_HUB_OFFLINE": "yes"}, cache: "/h/hub", offline: true},
		"offline, transformers": {
			env: env{"HF_HOME": "/h", "TRANSFORMERS_OFFLINE": "1"}, cache: "/h/hub", offline: true,
		},
		"offline, both": {
			env: env{"HF_HOME": "/h", "HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"}, cache: "/h/hub",
		},
		"not offline": {env: env{"HF_HOME": "/h", "HF_HUB_OFFLINE": "0"}, cache: "/h/hub"},
		"no home":     {env: env{}, err: "set HF_HOME"},
		"bad token": {
			env: env{"HF_HOME": dir, "HF_TOKEN_PATH": dir + "/bad"}, err: "characters that no token has",
		},
		"token is a folder": {env: env{"HF_HOME": dir, "HF_TOKEN_PATH": dir}, err: "set HF_TOKEN_PATH"},
		"bad endpoint":      {env: env{"HF_HOME": "/h", "HF_ENDPOINT": "mirror"}, err: "HF_ENDPOINT"},
		"endpoint, user": {
			env: env{"HF_HOME": "/h", "HF_ENDPOINT": "https://me:secret@mirror"}, err: "HF_ENDPOINT holds a user",
		},
	} {
		t.Run(name, func(t *testing.T) {
			o, err := OptionsFrom(func(name string) string { return c.env[name] })
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "secret") ||
					strings.Contains(err.Error(), "two") {
					t.Errorf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.endpoint == "" {
				c.endpoint = "https://huggingface.co"
			}
			token := ""
			if o.Token.IsSet() {
				token = o.Token.reveal()
			}
			if o.Endpoint != c.endpoint || o.Cache != filepath.FromSlash(c.cache) || token != c.token ||
				o.Offline != c.offline {
				t.Errorf("got %+v (token %q)", o, token)
			}
		})
	}
}

func TestValidate(t *testing.T) {
	err := Options{}.Validate()
	for _, want := range []string{
		"HF_ENDPOINT", "cache", "Parallel 0", "Attempts 0", "StallTimeout 0s", "RetryDelay 0s", "MaxRetryDelay 0s",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q", err, want)
		}
	}
}

func TestTokenPrints(t *testing.T) {
	token, err := NewToken("  " + testToken + "\n")
	if err != nil {
		t.Fatal(err)
	}
	type holder struct {
		Token  Token
		hidden Token
		list   []Token
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", token, "holder", holder{token, token, []Token{token}})
	text := log.String()
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		text += fmt.Sprintf(verb+" "+verb+" "+verb+"\n", token, &token, holder{token, token, []Token{token}})
	}
	data, err := json.Marshal(holder{Token: token})
	if err != nil {
		t.Fatal(err)
	}
	text += string(data)
	if strings.Contains(text, testToken) || strings.Contains(text, fmt.Sprintf("%x", testToken)) {
		t.Errorf("shown:\n%s", text)
	}
	if !strings.Contains(text, redacted) {
		t.Errorf("want %s somewhere:\n%s", redacted, text)
	}
}
