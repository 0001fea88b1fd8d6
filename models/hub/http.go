package hub

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// hubTransport adds the token to requests to the Hub, and to no others wherever a redirect leads:
// net/http would also take a header along to subdomains and to other ports.
type hubTransport struct {
	*http.Transport
	origin string
	token  Token
}

func newTransport(origin string, token Token) hubTransport {
	return hubTransport{origin: origin, token: token, Transport: &http.Transport{
		Proxy:               http.ProxyFromEnvironment,
		DialContext:         (&net.Dialer{Timeout: 20 * time.Second}).DialContext,
		TLSHandshakeTimeout: 20 * time.Second,
		ForceAttemptHTTP2:   true,
		DisableCompression:  true, // a file's bytes, as they are
		MaxIdleConnsPerHost: 8,
		IdleConnTimeout:     30 * time.Second,
	}}
}

// RoundTrip sends one request.
func (t hubTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", "limner")
	r.Header.Del("Referer") // a signed address is nobody else's business
	if t.token.IsSet() && origin(r.URL) == t.origin {
		r.Header.Set("Authorization", "Bearer "+t.token.reveal())
	}
	return t.Transport.RoundTrip(r)
}

// origin is what two addresses share that may see the same token.
func origin(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + strings.ToLower(u.Hostname()) + ":" + port
}

// networkError is a request that got no answer, or an answer that broke off.
type networkError struct{ error }

func (e networkError) Unwrap() error { return e.error }

// statusError is an answer that says no.
type statusError struct {
	code       int
	status     string // 404 Not Found
	reason     string // X-Error-Code: GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound
	message    string // X-Error-Message
	retryAfter time.Duration
	elsewhere  bool   // another host than the Hub's answered
	origin     string // of that host
}

func (e *statusError) Error() string {
	if e.message != "" {
		return fmt.Sprintf("the server answered %s (%s)", e.status, e.message)
	}
	return "the server answered " + e.status
}

func (c *Client) statusError(r *http.Response) *statusError {
	message := strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return -1
		}
		return c
	}, c.options.Token.redact(r.Header.Get("X-Error-Message")))
	if len(message) > 300 {
		message = strings.ToValidUTF8(message[:300], "") + "…"
	}
	return &statusError{
		code:       r.StatusCode,
		status:     strings.TrimSpace(strconv.Itoa(r.StatusCode) + " " + http.StatusText(r.StatusCode)),
		reason:     r.Header.Get("X-Error-Code"),
		message:    message,
		retryAfter: retryAfter(r.Header, time.Now()),
		elsewhere:  origin(r.Request.URL) != c.origin,
		origin:     r.Request.URL.Scheme + "://" + r.Request.URL.Host,
	}
}

// quote shows what a server wrote, without the token, which a part of would escape Token.clean.
func (c *Client) quote(s string) string { return fmt.Sprintf("%.80q", c.options.Token.redact(s)) }

// leastRate is how many bytes a second have to come.
const leastRate = 1 << 10

// send makes one request, which ends where in a whole StallTimeout arrived is told of less than leastRate. The caller
// reads the body and calls done.
func (c *Client) send(ctx context.Context, client *http.Client,
	method, address, rangeHeader string) (r *http.Response, arrived func(n int), done func(), err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	p := &pace{limit: c.options.StallTimeout, stop: cancel}
	p.timer = time.AfterFunc(p.limit, p.ended)
	stop := func() { p.timer.Stop(); cancel(nil) }
	request, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err == nil {
		if rangeHeader != "" {
			request.Header.Set("Range", rangeHeader)
		}
		r, err = client.Do(request)
	}
	if err != nil {
		err = shorten(ctx, err) // before stop, which is a cause of its own
		stop()
		return nil, nil, nil, err
	}
	p.timer.Reset(p.limit)
	r.Body = shortBody{r.Body, ctx}
	return r, p.arrived, func() { _ = r.Body.Close(); stop() }, nil
}

// pace ends a request that stalls or crawls: a server that sends a byte now and then must not hold a fetch for ever.
type pace struct {
	limit time.Duration
	timer *time.Timer
	stop  context.CancelCauseFunc
	bytes atomic.Int64 // since the timer was set
}

// arrived adds n bytes, and gives the next ones as much time again once there are enough.
func (p *pace) arrived(n int) {
	if float64(p.bytes.Add(int64(n))) >= leastRate*p.limit.Seconds() {
		p.bytes.Store(0)
		p.timer.Reset(p.limit)
	}
}

func (p *pace) ended() {
	if p.bytes.Load() > 0 {
		p.stop(networkError{fmt.Errorf("less than %d bytes a second for %s", leastRate, p.limit)})
		return
	}
	p.stop(networkError{fmt.Errorf("no data for %s", p.limit)})
}

// maxRedirects is how often an answer may lead on.
const maxRedirects = 10

// redirectError is an answer that leads nowhere, and will on every try.
type redirectError struct{ error }

// checkRedirect refuses what does not lead on: other schemes than the web's, and circles.
func checkRedirect(r *http.Request, via []*http.Request) error {
	if s := r.URL.Scheme; s != "https" && s != "http" {
		return redirectError{fmt.Errorf("the server redirects to an address that begins with %.20q, want https or http",
			s+":")}
	}
	if len(via) >= maxRedirects {
		return redirectError{fmt.Errorf("the server redirects more than %d times, or in a circle", maxRedirects)}
	}
	return nil
}

// shortBody shortens the errors of a body.
type shortBody struct {
	io.ReadCloser
	ctx context.Context
}

func (b shortBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = shorten(b.ctx, err)
	}
	return n, err
}

// shorten drops the address from what net/http says, which may be signed and which the caller
// names, and says what stopped a request.
func shorten(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) {
		return networkError{errors.New("the connection broke off")}
	}
	var urlError *url.Error
	if errors.As(err, &urlError) {
		err = urlError.Err
	}
	return networkError{err}
}

// hopeless says whether a network error stays the same on another try.
func hopeless(err error) bool {
	var dns *net.DNSError
	var cert *tls.CertificateVerificationError
	var redirect redirectError
	return errors.As(err, &dns) && dns.IsNotFound || errors.As(err, &cert) || errors.As(err, &redirect) ||
		errors.Is(err, errTooLong)
}

// answerTimeouts is how many times StallTimeout an answer other than a file may take in all.
const answerTimeouts = 10

var errTooLong = errors.New("the answer takes too long")

// getLimited reads a whole small answer.
func (c *Client) getLimited(ctx context.Context, address string, limit int64) ([]byte, error) {
	longest := answerTimeouts * c.options.StallTimeout
	ctx, cancel := context.WithTimeoutCause(ctx, longest,
		networkError{fmt.Errorf("%w: more than %s", errTooLong, longest)})
	defer cancel()
	r, arrived, done, err := c.send(ctx, c.http, http.MethodGet, address, "")
	if err != nil {
		return nil, err
	}
	defer done()
	if r.StatusCode != http.StatusOK {
		return nil, c.statusError(r)
	}
	data, err := io.ReadAll(&pacedReader{io.LimitReader(r.Body, limit+1), arrived})
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("the server's answer is longer than %d MB", limit>>20)
	}
	return data, nil
}

// pacedReader tells of the bytes of each read.
type pacedReader struct {
	io.Reader
	arrived func(n int)
}

func (r *pacedReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	r.arrived(n)
	return n, err
}
