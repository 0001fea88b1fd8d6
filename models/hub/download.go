package hub

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"limner/internal/disk"
)

// download brings files into a snapshot, several at a time.
func (c *Client) download(ctx context.Context, repo repoCache, ref Ref, commit string, files []file, m *meter) error {
	byBlob := map[string][]file{} // the same bytes may have several names
	var blobs []string
	var need int64 // bytes on the disk
	awaited := map[string]bool{}
	for _, f := range files {
		if repo.has(commit, f) {
			continue
		}
		if byBlob[f.etag] == nil {
			blobs = append(blobs, f.etag)
			if !hasSize(repo.blob(f.etag), f.size) {
				awaited[f.etag] = true
				m.total += f.size
				need += f.size - sizeOf(repo.blob(f.etag)+".incomplete")
			}
		}
		byBlob[f.etag] = append(byBlob[f.etag], f)
	}
	if len(blobs) == 0 {
		return nil
	}
	if err := os.MkdirAll(filepath.Join(repo.dir, "blobs"), 0o777); err != nil {
		return hintCache(fmt.Errorf("make the cache's folder: %w", err))
	}
	if free, err := disk.Free(repo.dir); err == nil && free < need {
		return fmt.Errorf("%s needs %d MB, the disk of %s has %d MB free: "+
			"free some space, or set HF_HUB_CACHE to a folder on another disk",
			ref, need/1e6, repo.dir, free/1e6)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(c.options.Parallel)
	for _, etag := range blobs {
		group.Go(func() error {
			same := byBlob[etag]
			came, err := c.fetchBlob(ctx, repo, ref, commit, same[0], m)
			if err != nil {
				return fmt.Errorf("download %s: %w", same[0].path, c.explain(ref, err))
			}
			if awaited[etag] && !came { // another process brought it
				m.add(same[0].size, same[0].path)
			}
			for _, f := range same {
				if err := repo.link(commit, f); err != nil {
					return fmt.Errorf("link %s: %w", f.path, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func sizeOf(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// fetchBlob downloads a blob if no other process does or did, and gives it its name when it is
// whole. It says whether it had to.
func (c *Client) fetchBlob(ctx context.Context, repo repoCache, ref Ref, commit string, f file,
	m *meter) (came bool, err error) {
	path := repo.blob(f.etag)
	if hasSize(path, f.size) {
		return false, nil
	}
	unlock, err := repo.lock(ctx, f.etag, func() {
		c.logf("another process is downloading %s: waiting for it", f.path)
	})
	if err != nil {
		return false, err
	}
	defer unlock()
	if hasSize(path, f.size) {
		return false, nil
	}
	if n := sizeOf(path); n > 0 {
		c.logf("the cache's %s has %d bytes, want %d: downloading it again", f.path, n, f.size)
	}
	t, err := newTransfer(c, c.resolveURL(ref, commit, f.path), f, path+".incomplete", m)
	if err != nil {
		return false, hintCache(err)
	}
	defer t.out.Close()
	if err := c.retry(ctx, c.options.Attempts, f.path, func() (bool, error) { return t.try(ctx) }); err != nil {
		if unavailable(err) && t.have > 0 {
			err = fmt.Errorf("%w: run again to go on from byte %d of %d", err, t.have, f.size)
		}
		return false, hintCache(err)
	}
	if err := t.out.Sync(); err != nil {
		return false, hintCache(err)
	}
	return true, os.Rename(t.out.Name(), path)
}

// transfer is one blob on its way. The caller holds the blob's lock.
type transfer struct {
	client  *Client
	address string
	file    file
	out     *os.File
	meter   *meter

	hash hash.Hash // of the etag's kind, or any where that is no hash
	have int64     // bytes in out, all of them in hash
	best int64     // the most that have ever was
}

// newTransfer takes up what an earlier one left in path.
func newTransfer(c *Client, address string, f file, path string, m *meter) (*transfer, error) {
	if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: %w: remove it", path, disk.ErrNotRegular)
	}
	out, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	t := &transfer{client: c, address: address, file: f, out: out, meter: m, hash: sha256.New()}
	if len(f.etag) == 2*sha1.Size {
		t.hash = sha1.New()
	}
	if err := t.resume(); err != nil {
		out.Close()
		return nil, err
	}
	return t, nil
}

// resume hashes the prefix that is there, and throws away what is too long for one.
func (t *transfer) resume() error {
	t.resetHash()
	n, err := io.Copy(t.hash, io.LimitReader(t.out, t.file.size+1))
	if err != nil {
		return err
	}
	if n > t.file.size {
		return t.restart()
	}
	t.have, t.best = n, n
	t.meter.add(n, t.file.path)
	return nil
}

// restart throws away all bytes.
func (t *transfer) restart() error {
	t.meter.add(-t.have, t.file.path)
	t.have = 0
	t.resetHash()
	if err := t.out.Truncate(0); err != nil {
		return err
	}
	_, err := t.out.Seek(0, io.SeekStart)
	return err
}

func (t *transfer) resetHash() {
	t.hash.Reset()
	if t.hash.Size() == sha1.Size {
		fmt.Fprintf(t.hash, "blob %d\x00", t.file.size) // as git does
	}
}

// try fetches the rest of the file and verifies the whole. It says whether it got notably further
// than any try before: a server that sends one byte a time must come to an end.
func (t *transfer) try(ctx context.Context) (news bool, err error) {
	before := t.best
	if t.have < t.file.size {
		err = t.receive(ctx)
	}
	if err == nil {
		err = t.verify()
	}
	t.best = max(t.best, t.have)
	return t.best-before > min(t.file.size/64, 1<<20), err
}

// verify compares the hash; where none is known, receive has seen to the size.
func (t *transfer) verify() error {
	got := hex.EncodeToString(t.hash.Sum(nil))
	if len(got) != len(t.file.etag) || got == t.file.etag {
		return nil
	}
	t.best = max(t.best, t.have)
	return t.damaged("the bytes that came have the hash %s, want %s", got, t.file.etag)
}

// damaged throws away what came, as nobody knows which part of it is wrong.
func (t *transfer) damaged(format string, args ...any) error {
	if err := t.restart(); err != nil {
		return err
	}
	return contentError{fmt.Errorf(format, args...)}
}

// receive asks for what is missing and appends it.
func (t *transfer) receive(ctx context.Context) error {
	rest := ""
	if t.have > 0 {
		rest = fmt.Sprintf("bytes=%d-", t.have)
	}
	r, arrived, done, err := t.client.send(ctx, t.client.http, http.MethodGet, t.address, rest)
	if err != nil {
		return err
	}
	defer done()
	if err := t.begin(r); err != nil {
		return err
	}
	buffer := make([]byte, 256<<10)
	for {
		n, readErr := r.Body.Read(buffer)
		if t.have+int64(n) > t.file.size {
			return t.damaged("the server sends more than the file's %d bytes", t.file.size)
		}
		if n > 0 {
			arrived(n)
			if _, err := t.out.Write(buffer[:n]); err != nil {
				return err
			}
			t.hash.Write(buffer[:n])
			t.have += int64(n)
			t.meter.add(int64(n), t.file.path)
		}
		switch {
		case readErr == io.EOF && t.have == t.file.size:
			return nil
		case readErr == io.EOF:
			return networkError{fmt.Errorf("the connection broke off after %d of %d bytes", t.have, t.file.size)}
		case readErr != nil:
			return readErr
		}
	}
}

// begin looks whether an answer goes on where the file ends.
func (t *transfer) begin(r *http.Response) error {
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return contentError{fmt.Errorf("the server sends the file in the encoding %s, which was not asked for",
			t.client.quote(e))}
	}
	switch r.StatusCode {
	case http.StatusOK:
		if n := r.ContentLength; n >= 0 && n != t.file.size {
			return contentError{fmt.Errorf("the server's file has %d bytes, want %d", n, t.file.size)}
		}
		if t.have > 0 { // it sends all again
			return t.restart()
		}
		return nil
	case http.StatusPartialContent:
		start, total, ok := parseContentRange(r.Header.Get("Content-Range"))
		if !ok || start != t.have || total >= 0 && total != t.file.size {
			return t.damaged("the server sends another range than asked for (%s)",
				t.client.quote(r.Header.Get("Content-Range")))
		}
		return nil
	case http.StatusRequestedRangeNotSatisfiable:
		return t.damaged("the server has no bytes from %d on, want %d bytes", t.have, t.file.size)
	}
	return t.client.statusError(r)
}

// parseContentRange reads "bytes 5-9/10"; total is -1 where the server writes *.
func parseContentRange(s string) (start, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, size, slash := strings.Cut(s, "/")
	first, last, dash := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	_, lastErr := strconv.ParseInt(last, 10, 64)
	total = -1
	var sizeErr error
	if size != "*" {
		total, sizeErr = strconv.ParseInt(size, 10, 64)
	}
	return start, total, ok && slash && dash && errors.Join(err, lastErr, sizeErr) == nil
}
