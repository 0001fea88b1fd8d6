package folder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

// lockName is the file by whose lock a process owns an output folder. The kernel frees it however the process ends; the
// file stays, since removing it would race with the next owner.
const lockName = ".limner.lock"

// owner is what the lock file says of the process that has it, or had it last.
type owner struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Started time.Time `json:"started"`
	Command string    `json:"command"`
}

// lockOutput makes this process the owner of an output folder.
func lockOutput(dir string) (*flock.Flock, error) {
	path := filepath.Join(dir, lockName)
	lock := flock.New(path, flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o644))
	// One that only looks who has it holds it for an instant.
	patience, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	held, err := lock.TryLockContext(patience, 20*time.Millisecond)
	if !held && (err == nil || errors.Is(err, context.DeadlineExceeded)) {
		return nil, errors.Join(ownedError(dir), lock.Close())
	} else if err != nil {
		return nil, errors.Join(fmt.Errorf("lock output folder: %w", err), lock.Close())
	}
	host, _ := os.Hostname() // for people only
	raw, err := json.Marshal(owner{
		PID: os.Getpid(), Host: host, Started: time.Now().UTC().Truncate(time.Second),
		Command: strings.Join(os.Args, " "),
	})
	if err == nil {
		err = os.WriteFile(path, append(raw, '\n'), 0o644)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock output folder: %w", err), lock.Close())
	}
	return lock, nil
}

// checkOwner fails if another process owns the folder. It makes no files.
func checkOwner(dir string) error {
	path := filepath.Join(dir, lockName)
	if _, err := os.Stat(path); err != nil {
		return nil // a run's start makes it
	}
	lock := flock.New(path, flock.SetFlag(os.O_RDONLY))
	free, err := lock.TryRLock()
	if err == nil && !free {
		err = ownedError(dir)
	}
	return errors.Join(err, lock.Close())
}

func ownedError(dir string) error {
	var o owner
	raw, err := os.ReadFile(filepath.Join(dir, lockName))
	if err == nil {
		err = json.Unmarshal(raw, &o)
	}
	who := fmt.Sprintf("process %d on %s, started %s: %s", o.PID, o.Host, o.Started.Format(time.RFC3339), o.Command)
	if err != nil {
		who = "another process"
	}
	return fmt.Errorf("output folder %s is in use by %s\nwait for it, stop it, or give another --output_dir", dir, who)
}
