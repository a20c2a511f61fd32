# Tests of the house itself.
add_test(NAME house/floors COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/check_floors.py ${PROJECT_SOURCE_DIR})
add_test(NAME house/floors_self_test COMMAND /usr/bin/python3 ${CMAKE_CURRENT_SOURCE_DIR}/check_floors.py --self-test)
