package egress

import "time"

// Look makes a look at the files due, which happens at that time.
func (f *Files) Look(at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked, f.now = time.Time{}, func() time.Time { return at }
}
