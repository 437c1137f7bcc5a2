package authz

import "time"

// Action is what policies grant.
type Action string

// The actions.
const (
	Pull   Action = "pull"   // manifests, blobs, tags, referrers, also without their bytes
	Push   Action = "push"   // uploads in all their steps, manifests, mounts
	Delete Action = "delete" // tags, manifests, blobs
	List   Action = "list"   // the catalog, and what the extensions list
	Admin  Action = "admin"  // changes through the extensions, and what is the operator's own
)

// Actions gives all actions.
func Actions() []Action { return []Action{Pull, Push, Delete, List, Admin} }

// Access is what somebody asks for. It is comparable, and all but Time is a part of
// the question: two that are equal without it have the same answer.
type Access struct {
	Action Action
	// Operation is what exactly is done: get-manifest, put-manifest, delete-manifest,
	// delete-tag, get-blob, delete-blob, start-upload, get-upload, patch-upload,
	// put-upload, cancel-upload, mount-blob, list-tags, list-catalog, get-referrers.
	Operation string
	// Repository is the one name that a repository has here; "" where none is meant.
	Repository string
	// Upstream is the name of the upstream that it is mirrored from; "": it is local.
	Upstream string
	// Tag and Digest are what a manifest is asked for by, or a blob; each may be "".
	Tag    string
	Digest string
	// From is the repository that a blob is mounted from.
	From string
	// ArtifactType is what referrers are asked for.
	ArtifactType string
	// MediaType and Size (bytes) are of a manifest that is pushed.
	MediaType string
	Size      int64
	Time      time.Time
}
