package config

// Authz says who may do what.
type Authz struct {
	// Realm is what clients are told that they log in to: the realm of passwords, and
	// the service of tokens.
	Realm string `yaml:"realm"`
	Basic Basic  `yaml:"basic"`
	Token Token  `yaml:"token"`
}

func (v *validator) authz(c *Config) {
	v.realm(c.Authz.Realm)
	v.basic(&c.Authz.Basic)
	v.token(&c.Authz.Token)
}

// realm examines what is quoted in a header, and is what tokens are for.
func (v *validator) realm(realm string) {
	const path, longest = "authz.realm", 255
	if realm == "" || len(realm) > longest {
		v.fail(path, "must have 1 to %d characters", longest)
	}
	for _, c := range []byte(realm) {
		if c < ' ' || 0x7f <= c || c == '"' || c == '\\' {
			v.fail(path, `holds a character that has no place in a header: ASCII without " and \ has`)
			return
		}
	}
}
