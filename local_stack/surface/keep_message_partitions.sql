select local_stack.keep_message_partitions();
