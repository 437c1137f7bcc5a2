package config

// Authz says who may do what, and how they show who they are.
type Authz struct {
	// OIDC are the providers whose tokens count.
	OIDC []OIDC `yaml:"oidc"`
}
