package config

import "github.com/weir-registry/weir/store/coord"

// redis examines what several replicas are told of each other by.
func (v *validator) redis(c *Config) {
	const path = "store.redis"
	r := c.Store.Redis
	if r.URL.IsZero() {
		if !r.Advertise.IsZero() {
			v.fail(path+".advertise", "is set, and store.redis.url is not: there is nobody to tell it to")
		}
		return
	}
	url, err := r.URL.Value()
	if err == nil {
		err = coord.CheckURL(url)
	}
	if err != nil {
		v.fail(v.secret(path+".url", r.URL), "is no good: %s", of(r.URL, err))
	}
	if r.Advertise.Path != "" {
		v.fail(path+".advertise", "has the path %q: other replicas find this one only at the root of a host", r.Advertise.Path)
	}
}
