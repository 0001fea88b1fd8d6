package hub

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

// contentError is an answer whose bytes are not those of the file.
type contentError struct{ error }

// temporary says whether another try may help.
func temporary(err error) bool {
	var network networkError
	var status *statusError
	var content contentError
	switch {
	case errors.As(err, &network):
		return !hopeless(err)
	case errors.As(err, &status):
		switch {
		case status.code == http.StatusRequestTimeout, status.code == http.StatusTooEarly,
			status.code == http.StatusTooManyRequests:
			return true
		case status.elsewhere && status.reason == "" && status.code != http.StatusUnauthorized:
			return true // a signed address that ran out: the Hub signs another
		}
		return status.code >= 500 && status.code != http.StatusNotImplemented
	}
	return errors.As(err, &content)
}

// unavailable says whether the Hub could not be asked at all.
func unavailable(err error) bool {
	var network networkError
	return errors.As(err, &network) || temporary(err)
}

// retry calls try until it works, another try would not help, or so many in a row brought nothing
// new. A try says whether it did.
func (c *Client) retry(ctx context.Context, attempts int, what string, try func() (news bool, err error)) error {
	for failures := 0; ; {
		news, err := try()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !temporary(err):
			return err
		case news:
			failures = 0
		}
		failures++
		if failures >= attempts {
			if attempts > 1 {
				err = fmt.Errorf("%w (%d tries)", err, attempts)
			}
			return err
		}
		wait := c.delay(failures, err)
		if wait >= 3*time.Second {
			c.logf("%s: %v: trying again in %s", what, err, wait.Round(time.Second))
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// delay is what the server asks for, or a time that doubles with each failure, less up to a half
// of it so that many clients do not come back together.
func (c *Client) delay(failures int, err error) time.Duration {
	var status *statusError
	if errors.As(err, &status) && status.retryAfter > 0 {
		return min(status.retryAfter, c.options.MaxRetryDelay)
	}
	d := min(c.options.RetryDelay<<min(failures-1, 5), c.options.MaxRetryDelay)
	return d - rand.N(d/2+1)
}

// rateLimit is the header by which the Hub says for how many seconds nothing more is served.
var rateLimit = regexp.MustCompile(`;\s*r\s*=\s*0\s*;\s*t\s*=\s*(\d{1,6})`)

// retryAfter reads Retry-After, in seconds or as a date, and the Hub's RateLimit; 0 is no demand.
func retryAfter(h http.Header, now time.Time) time.Duration {
	const longest = 365 * 24 * 3600
	s := h.Get("Retry-After")
	if n, err := strconv.ParseUint(s, 10, 32); err == nil {
		return time.Duration(min(n, longest)) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil {
		return max(0, t.Sub(now))
	}
	if m := rateLimit.FindStringSubmatch(h.Get("RateLimit")); m != nil {
		n, _ := strconv.Atoi(m[1])
		return time.Duration(n+1) * time.Second
	}
	return 0
}
