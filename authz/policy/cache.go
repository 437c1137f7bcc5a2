package policy

import (
	"crypto/sha256"
	"time"

	"github.com/weir-registry/weir/authz"
)

const (
	// mostKept is how many decisions are kept.
	mostKept = 16_384
	// longestKept bounds what a client can have kept as a part of one, in bytes.
	longestKept = 2 << 10
)

// question is what a decision was made of, as far as its rules look: whole, but for
// fields of the request that none of them reads. The repository, which chooses the
// rules, is always in it, and so is all that an identity says.
type question struct {
	who  [sha256.Size]byte
	what authz.Access
}

// ask makes the question. keep is false where its answer must not be kept.
func ask(r reads, who authz.Identity, what authz.Access) (q question, keep bool) {
	if r&readsTime != 0 {
		return question{}, false
	}
	what.Time = time.Time{}
	for _, f := range []struct {
		read  reads
		value *string
	}{
		{readsOperation, &what.Operation},
		{readsUpstream, &what.Upstream},
		{readsTag, &what.Tag},
		{readsDigest, &what.Digest},
		{readsFrom, &what.From},
		{readsArtifactType, &what.ArtifactType},
		{readsMediaType, &what.MediaType},
	} {
		if r&f.read == 0 {
			*f.value = ""
		}
	}
	if r&readsSize == 0 {
		what.Size = 0
	}
	if len(what.ArtifactType)+len(what.MediaType)+len(what.Repository)+len(what.From)+len(what.Tag) > longestKept {
		return question{}, false
	}
	key, ok := who.Key()
	return question{key, what}, ok
}
