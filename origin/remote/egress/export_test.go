package egress

import "time"

// Look takes up what changed in the files by that time.
func (f *Files) Look(at time.Time) { f.watched.Look(at) }
