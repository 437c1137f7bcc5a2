package egress

import "time"

// Look makes a look at the files due.
func (f *Files) Look() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.looked = time.Time{}
}
