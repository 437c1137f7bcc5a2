package disk

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/weir-registry/weir/store"
)

// state is what Close saves of an ingest, so that resuming it need not read it.
//
// Neither the state nor the data is synced by Close: a push in many chunks would
// pay for it with each. They are both in the kernel's cache, and survive the
// process there; what a power cut leaves of them is anyone's guess. So a state is
// believed only in the boot that it was saved in.
type state struct {
	Boot string `json:"boot"`
	Size int64  `json:"size"`
	Hash []byte `json:"hash"` // as its MarshalBinary gives it
}

func stateName(id string) string { return path.Join(ingestDir, id+".state") }

// bootID names the kernel's boot; "" where the kernel does not say.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// saveState saves the hash of what was written, unless it is saved already. That of
// nothing needs no file.
func (g *ingest) saveState() error {
	if g.hash == nil || g.saved == g.size || g.size == 0 || g.b.boot == "" {
		return nil
	}
	sum, err := g.hash.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return err
	}
	data, err := json.Marshal(state{Boot: g.b.boot, Size: g.size, Hash: sum})
	if err != nil {
		return err
	}
	tmp, err := g.b.s.temp(data)
	if err != nil {
		return err
	}
	if err := g.b.s.fs.Rename(tmp, stateName(g.id)); err != nil {
		g.b.s.discard(tmp)
		return err
	}
	g.saved = g.size
	return nil
}

// loadState gives the saved hash of an ingest whose file has size bytes, and how
// many bytes it is of. Where that cannot be believed, for whatever reason, it is
// as if nothing had been saved: the hash is made anew from the file.
func (b *Blobs) loadState(id string, alg digest.Algorithm, size int64) (hash.Hash, int64, bool) {
	data, err := b.s.root.ReadFile(stateName(id))
	if err != nil {
		return nil, 0, false
	}
	var st state
	if json.Unmarshal(data, &st) != nil || st.Boot == "" || st.Boot != b.boot || st.Size < 0 || st.Size > size {
		return nil, 0, false
	}
	h := store.Hash(alg)
	if h.(encoding.BinaryUnmarshaler).UnmarshalBinary(st.Hash) != nil {
		return nil, 0, false
	}
	return h, st.Size, true
}

// dropState removes what was saved, by whomever.
func (g *ingest) dropState() error {
	if err := g.b.s.fs.Remove(stateName(g.id)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove state: %w", err)
	}
	g.saved = -1
	return nil
}
