#!/bin/sh
cat <<END
{"web": {"hosts": ["s1", "s2"], "vars": {"role": "web", "n": null}, "children": ["sub"]},
 "sub": ["s3"], "lone": {"k": 1},
 "_meta": {"hostvars": {"s1": {"ansible_host": "10.0.0.1", "list": [1, {"x": "{{ role }}"}]}, "nobody": {"a": 1}}}}
END
