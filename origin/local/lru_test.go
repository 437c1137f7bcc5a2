package local

import (
	"testing"
)

func TestLRU(t *testing.T) {
	c := newLRU[string, int](100)
	has := func(want ...string) {
		t.Helper()
		for _, k := range []string{"a", "b", "c", "d"} {
			found := false
			for _, w := range want {
				found = found || w == k
			}
			if c.entries.Contains(k) != found {
				t.Errorf("%s is kept: %v", k, !found)
			}
		}
	}
	c.put("a", 1, 40)
	c.put("b", 2, 40)
	c.get("a")
	c.put("c", 3, 40) // b was used least recently
	has("a", "c")
	c.put("a", 1, 50) // its old cost is given back
	has("a", "c")
	c.put("d", 4, 101) // over the budget alone
	has("a", "c")
	c.put("c", 3, 101) // and so it is dropped where it was kept before
	has("a")
	c.remove("a")
	if has(); c.cost != 0 {
		t.Errorf("cost %d of nothing", c.cost)
	}
}

func TestLRUReprice(t *testing.T) {
	c := newLRU[string, int](100)
	is := func(v int) func(int) bool { return func(cur int) bool { return cur == v } }
	if got := c.getOrPut("a", 1, 10); got != 1 {
		t.Errorf("kept %d", got)
	}
	if got := c.getOrPut("a", 2, 10); got != 1 {
		t.Errorf("got %d, and 1 was there", got)
	}
	c.getOrPut("b", 2, 10)
	c.reprice("a", is(2), 80) // another one
	c.reprice("c", is(3), 80) // not there
	if c.cost != 20 || c.entries.Contains("c") {
		t.Errorf("cost %d", c.cost)
	}
	c.reprice("a", is(1), 300) // the last entry stays, whatever it costs
	if !c.entries.Contains("a") || c.entries.Contains("b") || c.cost != 300 {
		t.Errorf("cost %d, a: %v, b: %v", c.cost, c.entries.Contains("a"), c.entries.Contains("b"))
	}
	c.reprice("a", is(1), 30)
	c.getOrPut("b", 2, 10)
	if !c.entries.Contains("a") || c.cost != 40 {
		t.Errorf("cost %d", c.cost)
	}
}
