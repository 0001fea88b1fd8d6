package plugin

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// In each stallLimit a download must receive at least leastBytes, or it fails.
const (
	stallLimit = time.Minute
	leastBytes = 64 << 10
)

var errStalled = fmt.Errorf("less than %d bytes in %s", leastBytes, stallLimit)

// download writes the wheel to path, checks it and syncs it to the disk.
func (w Wheel) download(ctx context.Context, path string, r installReporter) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stalled := time.AfterFunc(stallLimit, func() { cancel(errStalled) })
	defer stalled.Stop()

	request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.URL, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Accept-Encoding", "identity") // no compression of the wheel in transit
	client := http.Client{Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 20 * time.Second}).DialContext,
		TLSHandshakeTimeout: 20 * time.Second,
		ForceAttemptHTTP2:   true,
	}}
	defer client.CloseIdleConnections()
	response, err := client.Do(request)
	if err != nil {
		return downloadError(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("the server answered %s", response.Status)
	}
	if n := response.ContentLength; n >= 0 && n != w.Size {
		return fmt.Errorf("the server's file has %d bytes, pinned are %d", n, w.Size)
	}
	progress := r.start(fmt.Sprintf("downloading %s %s", w.Package, w.Version), w.Size)
	defer progress.Close()
	_, err = writeSynced(path, func(f io.Writer) error {
		alive := &resetOnWrite{timer: stalled}
		return w.check(io.MultiWriter(f, progress, alive), response.Body)
	})
	return downloadError(ctx, err)
}

// downloadError shortens an error of net/http: the caller names the URL.
func downloadError(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the connection broke off: %w", err)
	}
	var urlError *url.Error
	if errors.As(err, &urlError) {
		return urlError.Err
	}
	return err
}

// resetOnWrite restarts a timer whenever leastBytes were written.
type resetOnWrite struct {
	timer *time.Timer
	bytes int
}

func (r *resetOnWrite) Write(p []byte) (int, error) {
	if r.bytes += len(p); r.bytes >= leastBytes {
		r.bytes = 0
		r.timer.Reset(stallLimit)
	}
	return len(p), nil
}

// installReporter tells the user what an installation does. With a nil writer it is silent.
type installReporter struct{ w io.Writer }

// say writes one line.
func (r installReporter) say(format string, args ...any) {
	if r.w != nil {
		fmt.Fprintf(r.w, format+"\n", args...)
	}
}

// start returns a writer that counts bytes: a bar on a terminal, else a line every 10 seconds.
func (r installReporter) start(what string, total int64) io.WriteCloser {
	if r.w == nil {
		return &progressLines{}
	}
	if f, ok := r.w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return progressbar.NewOptions64(total,
			progressbar.OptionSetWriter(r.w),
			progressbar.OptionSetDescription(what),
			progressbar.OptionShowBytes(true),
			progressbar.OptionSetWidth(30),
			progressbar.OptionThrottle(100*time.Millisecond),
			progressbar.OptionClearOnFinish())
	}
	r.say("%s (%.0f MB)", what, float64(total)/1e6)
	return &progressLines{say: r.say, what: what, total: total, last: time.Now()}
}

// progressLines reports progress to a log.
type progressLines struct {
	say         func(string, ...any)
	what        string
	done, total int64
	last        time.Time
}

func (l *progressLines) Write(p []byte) (int, error) {
	l.done += int64(len(p))
	if l.say != nil && time.Since(l.last) > 10*time.Second {
		l.last = time.Now()
		l.say("%s: %d %%", l.what, 100*l.done/l.total)
	}
	return len(p), nil
}

func (l *progressLines) Close() error { return nil }
