package policy

import (
	"time"

	"github.com/weir-registry/weir/authz"
)

const (
	// mostKept is how many decisions are kept.
	mostKept = 16_384
	// mostFound is for how many repositories it is remembered which rules hold.
	mostFound = 4096
	// longestKept bounds what a client can have kept as a part of one, in bytes: of what it
	// asks for, and of what it is called.
	longestKept = 2 << 10
)

// question is what a decision was made of, as far as its rules look: whole, but for
// fields of the request that none of them reads. The repository, which chooses the
// rules, is always in it, and so is all that an identity says.
type question struct {
	who  authz.Key
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
	key, ok := who.Key()
	if key.Len()+len(what.ArtifactType)+len(what.MediaType)+len(what.Repository)+len(what.From)+len(what.Tag) > longestKept {
		return question{}, false
	}
	return question{key, what}, ok
}
