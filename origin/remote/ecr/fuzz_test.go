package ecr

import (
	"encoding/base64"
	"testing"
)

// A token that is taken has a user name and a password, which give it again.
func FuzzRead(f *testing.F) {
	for _, s := range []string{"QVdTOnBhc3N3b3Jk", "QVdTOg==", "OnA=", "!", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		l, err := read(s)
		if err != nil {
			return
		}
		want, _ := base64.StdEncoding.DecodeString(s)
		if l.Password.Reveal() == "" || l.Username+":"+l.Password.Reveal() != string(want) {
			t.Errorf("%q is %q and %q", want, l.Username, l.Password.Reveal())
		}
	})
}

// What a host says of its region can be put into another host's name.
func FuzzRegion(f *testing.F) {
	for _, s := range []string{"123456789012.dkr.ecr.eu-central-1.amazonaws.com", "1.dkr.ecr.x.on.aws:443", "mirror.corp:5000", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		region, fips := region(s)
		for _, c := range region {
			if (c < 'a' || 'z' < c) && (c < '0' || '9' < c) && c != '-' {
				t.Errorf("%q is in %q", s, region)
			}
		}
		if region == "" && fips {
			t.Errorf("%q is nowhere, with FIPS", s)
		}
	})
}
