package main

import (
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"

	"golang.org/x/term"

	"limner/data/imaging"
)

// showInTerminal shows a picture on a terminal that can, by kitty's or iTerm2's sequences; elsewhere it does nothing.
func showInTerminal(out *os.File, m *imaging.RGB) error {
	protocol := pictureProtocol(os.Getenv)
	if protocol == "" || !term.IsTerminal(int(out.Fd())) {
		return nil
	}
	raw, err := imaging.EncodePNG(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "\r\x1b[K%s\n", pictureSequence(protocol, raw))
	return err
}

// pictureProtocol is what the terminal says that it understands.
func pictureProtocol(getenv func(string) string) string {
	switch {
	case getenv("KITTY_WINDOW_ID") != "" || getenv("TERM") == "xterm-kitty" || getenv("TERM_PROGRAM") == "ghostty":
		return "kitty"
	case slices.Contains([]string{"iTerm.app", "WezTerm", "vscode"}, getenv("TERM_PROGRAM")):
		return "iterm2"
	}
	return ""
}

// pictureSequence shows a PNG.
func pictureSequence(protocol string, png []byte) string {
	text := base64.StdEncoding.EncodeToString(png)
	if protocol == "iterm2" {
		return fmt.Sprintf("\x1b]1337;File=inline=1;size=%d:%s\a", len(png), text)
	}
	const chunk = 4096 // at most, by kitty's protocol
	var b strings.Builder
	for i := 0; i < len(text); i += chunk {
		head, more := "", 0
		if i == 0 {
			head = "f=100,a=T,"
		}
		if i+chunk < len(text) {
			more = 1
		}
		fmt.Fprintf(&b, "\x1b_G%sm=%d;%s\x1b\\", head, more, text[i:min(i+chunk, len(text))])
	}
	return b.String()
}
