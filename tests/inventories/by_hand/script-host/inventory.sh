#!/bin/sh
if [ "$1" = --list ]; then echo '{"web": {"hosts": ["h1", "h2"]}}'
elif [ "$2" = h1 ]; then echo '{"who": "'"$2"'"}'
fi
