-- What a file set for itself is not for the next one, nor for the history's owner.
reset all;
set role postgres;
