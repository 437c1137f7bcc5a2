package events

import (
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"strconv"
	"sync"
	"time"

	"github.com/cloudevents/sdk-go/v2/event"
	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/origin"
)

// Kind is what happened, as receivers ask for it.
type Kind string

// What receivers may be told.
const (
	Push   Kind = "push"
	Delete Kind = "delete"
	Pull   Kind = "pull"
	Fill   Kind = "fill"
)

// Kinds are all of them.
func Kinds() []Kind { return []Kind{Push, Delete, Pull, Fill} }

// types are the CloudEvents types of the kinds.
var types = map[Kind]string{
	Push:   "io.weir.manifest.push",
	Delete: "io.weir.manifest.delete",
	Pull:   "io.weir.manifest.pull",
	Fill:   "io.weir.blob.fill",
}

// Event is something that happened.
type Event struct {
	// ID is the same in every repetition.
	ID   string `json:"-"`
	Kind Kind   `json:"kind"`
	Data
	// Pending says that a deletion was about to happen when this was written.
	Pending bool `json:"pending,omitempty"`
}

// Data is what an event says of it.
type Data struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"` // "" = none
	Digest     digest.Digest `json:"digest"`
	MediaType  string        `json:"media_type"`
	Size       int64         `json:"size"`     // bytes
	Identity   string        `json:"identity"` // who did it; "" = weir itself, or nobody knows
	Time       time.Time     `json:"time"`
}

// encode is the event as a CloudEvent in JSON.
func (e Event) encode(source string) ([]byte, error) {
	ce := event.New()
	ce.SetID(e.ID)
	ce.SetType(types[e.Kind])
	ce.SetSource(source)
	ce.SetSubject(e.Repository)
	ce.SetTime(e.Time)
	if err := ce.SetData(event.ApplicationJSON, e.Data); err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, err)
	}
	b, err := json.Marshal(ce)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, err)
	}
	return b, nil
}

// ids gives ids that grow.
type ids struct {
	mu   sync.Mutex
	last int64
}

const (
	timeDigits = 16 // hex, nanoseconds since 1970
	lineDigits = 8  // hex, a hash of the repository
)

// next gives the id of what happens now in a repository, greater than all before.
func (i *ids) next(repo string, now time.Time) string {
	i.mu.Lock()
	i.last = max(i.last+1, now.UnixNano())
	n := i.last
	i.mu.Unlock()
	var random [8]byte
	rand.Read(random[:])
	h := fnv.New32a()
	h.Write([]byte(repo))
	return fmt.Sprintf("%0*x-%s-%0*x", timeDigits, n, hex.EncodeToString(random[:]), lineDigits, h.Sum32())
}

// lineOf is what must be told one after the other: what ends alike. Two repositories
// may share a line, which costs time at worst.
func lineOf(id string) string { return id[max(0, len(id)-lineDigits):] }

// bornAt is when the thing happened; ok is false for what is no id.
func bornAt(id string) (at time.Time, ok bool) {
	if len(id) < timeDigits {
		return at, false
	}
	n, err := strconv.ParseInt(id[:timeDigits], 16, 64)
	return time.Unix(0, n), err == nil
}

// who is who asked for what happens, as the log has it.
func who(r *origin.Request) string {
	if r.Principal == nil {
		return ""
	}
	return r.Principal.String()
}
